"""MNIST in plain PyTorch as tutorials have it: ``tutorial.py SEED EPOCHS``."""

import sys

import torch
from diary import Diary
from torch import nn
from torch.utils.data import DataLoader, random_split
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from mnist_lit.networks import TutorialCNN  # an ordinary nn.Sequential

seed, epochs = map(int, sys.argv[1:])
torch.manual_seed(seed)
device = "cuda" if torch.cuda.is_available() else "cpu"
diary = Diary(epochs)

mnist = MNIST("data", train=True, transform=ToTensor())
split = torch.Generator().manual_seed(1998)
_, train_set = random_split(mnist, [5000, 55_000], generator=split)
test_set = MNIST("data", train=False, transform=ToTensor())
train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
test_loader = DataLoader(test_set, batch_size=64)

model = TutorialCNN().to(device)
loss_function = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)

enough = False
while not enough:
    diary.note("begin")
    model.train()
    for images, labels in train_loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = loss_function(model(images), labels)
        loss.backward()
        optimizer.step()
        diary.stepped()
    diary.note("trained")
    model.eval()
    right = 0
    with torch.no_grad():
        for images, labels in test_loader:
            images, labels = images.to(device), labels.to(device)
            right += (model(images).argmax(dim=1) == labels).sum().item()
    enough = diary.tested(right / len(test_set))
diary.note("end")
