"""A script with Keras' `fit`; the lines marked `# bcrit` are all that it needs to be measured.

The command of a trial begins with `KERAS_BACKEND=torch python keras_script.py --batch-size {batch_size} --lr {lr}`.
"""

import argparse
from typing import Any

import keras
from sklearn.datasets import load_digits

from bcrit import report  # bcrit


class Report(keras.callbacks.Callback):  # type: ignore[misc]  # bcrit
    """Evaluates and reports every fifth update."""  # bcrit

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # bcrit
        """Called after each update."""  # bcrit
        if (step := int(self.model.optimizer.iterations)) % 5 == 0:  # bcrit
            report(step=step, val_loss=self.model.evaluate(*validation, batch_size=360, verbose=0))  # bcrit


parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--steps", type=int, default=200)
given = parser.parse_args()
keras.utils.set_random_seed(given.seed)
x, y = load_digits(return_X_y=True)
training, validation = (x[:1437] / 16, y[:1437]), (x[1437:] / 16, y[1437:])
model = keras.Sequential([keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10)])
optimizer = keras.optimizers.SGD(given.lr, momentum=0.9)
model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
epochs = -(-given.steps // (1437 // given.batch_size))
model.fit(
    *training,
    batch_size=given.batch_size,
    epochs=epochs,
    verbose=0,
    callbacks=[Report()],  # bcrit
)
