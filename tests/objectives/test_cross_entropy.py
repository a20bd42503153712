import torch
import torch.nn.functional as F


def test_the_loss_is_the_cross_entropy_of_the_labels(make, batch):
    objective = make("cross_entropy")

    terms = objective(batch)

    assert torch.equal(terms["loss"], F.cross_entropy(terms["logits"], batch["label"]))


def test_masks_are_not_looked_at(make, batch):
    objective = make("cross_entropy").eval()

    without = objective({key: batch[key] for key in ("image", "label")})

    assert torch.equal(objective(batch)["loss"], without["loss"])


def test_nothing_is_to_be_tuned(make):
    objective = make("cross_entropy")

    assert objective.bound_estimation_epochs == 0
    assert objective.finish_estimation() == {}


def test_a_batch_can_be_learnt_by_heart(make, batch):
    objective = make("cross_entropy")
    optimizer = torch.optim.AdamW(objective.parameters(), 3e-3)
    first = float(objective(batch)["loss"].detach())

    for _ in range(30):
        optimizer.zero_grad()
        loss = objective(batch)["loss"]
        loss.backward()
        optimizer.step()

    assert float(loss.detach()) < 0.05 * first
