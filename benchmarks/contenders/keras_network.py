"""The tutorial's network and optimizer in Keras: ``keras_network.py SEED EPOCHS``."""

import sys

import keras
from keras import layers
from keras_diary import Witness, images_and_labels

seed, epochs = map(int, sys.argv[1:])
keras.utils.set_random_seed(seed)

model = keras.Sequential(
    [
        keras.Input(shape=(28, 28, 1)),
        layers.Conv2D(16, kernel_size=(5, 5), padding="same", activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Conv2D(32, kernel_size=(5, 5), padding="same", activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ]
)
assert model.count_params() == 28_938  # those of TutorialCNN
model.compile(
    loss="categorical_crossentropy",
    optimizer=keras.optimizers.Adam(learning_rate=0.001),
    metrics=["accuracy"],
)
x_train, y_train = images_and_labels("train")
model.fit(
    x_train,
    y_train,
    batch_size=64,
    epochs=10,
    validation_data=images_and_labels("val"),
    callbacks=[Witness(epochs)],
)
