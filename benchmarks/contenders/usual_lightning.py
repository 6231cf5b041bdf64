"""MNIST with Lightning as its documentation has it: ``usual_lightning.py SEED EPOCHS``."""

import sys

import lightning as L  # noqa: N812  # as everybody writes it
import torch
from lightning_diary import Witness
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, random_split
from torchmetrics import Accuracy
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from mnist_lit.networks import TutorialCNN

Loader = DataLoader[tuple[torch.Tensor, torch.Tensor]]


class MNISTData(L.LightningDataModule):
    """Images one by one through a transform, in batches of 64."""

    def setup(self, stage: str) -> None:
        if stage == "fit":
            mnist = MNIST("data", train=True, transform=ToTensor())
            split = torch.Generator().manual_seed(1998)
            self.val_set, self.train_set = random_split(mnist, [5000, 55_000], generator=split)
        if stage == "test":
            self.test_set = MNIST("data", train=False, transform=ToTensor())

    def train_dataloader(self) -> Loader:
        return DataLoader(self.train_set, batch_size=64, shuffle=True)

    def val_dataloader(self) -> Loader:
        return DataLoader(self.val_set, batch_size=64)

    def test_dataloader(self) -> Loader:
        return DataLoader(self.test_set, batch_size=64)


class Classifier(L.LightningModule):
    """The network, with loss and accuracy logged at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.network = TutorialCNN()
        self.train_accuracy = Accuracy(task="multiclass", num_classes=10)
        self.val_accuracy = Accuracy(task="multiclass", num_classes=10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        return logits

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, labels = batch
        logits = self(images)
        loss = cross_entropy(logits, labels)
        self.train_accuracy(logits, labels)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_accuracy", self.train_accuracy, prog_bar=True)
        return loss

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        images, labels = batch
        logits = self(images)
        self.val_accuracy(logits, labels)
        self.log("val_loss", cross_entropy(logits, labels), prog_bar=True)
        self.log("val_accuracy", self.val_accuracy, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.001)


seed, epochs = map(int, sys.argv[1:])
L.seed_everything(seed)
trainer = L.Trainer(max_epochs=10, callbacks=[Witness(epochs)])
trainer.fit(Classifier(), datamodule=MNISTData())
