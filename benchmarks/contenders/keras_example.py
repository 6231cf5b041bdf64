"""The "Simple MNIST convnet" of Keras's documentation: ``keras_example.py SEED EPOCHS``.

https://keras.io/examples/vision/mnist_convnet/, by François Chollet.
"""

import sys

import keras
from keras import layers
from keras_diary import Witness, images_and_labels

seed, epochs = map(int, sys.argv[1:])
keras.utils.set_random_seed(seed)

model = keras.Sequential(
    [
        keras.Input(shape=(28, 28, 1)),
        layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Conv2D(64, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ]
)
model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
x_train, y_train = images_and_labels("train")
model.fit(
    x_train,
    y_train,
    batch_size=128,
    epochs=10,
    validation_data=images_and_labels("val"),
    callbacks=[Witness(epochs)],
)
