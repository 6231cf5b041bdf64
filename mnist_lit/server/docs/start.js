// In a file of its own, since the Content-Security-Policy forbids inline scripts.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  validatorUrl: null, // by default, the schema is sent to an online validator
});
