// Swagger UI begins in a file, since the content policy allows no script in the page.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  validatorUrl: null, // or the document would be sent to a host of theirs
});
