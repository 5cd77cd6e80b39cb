"""Which example is seen when, where and how often."""

from itertools import chain

import pytest
import torch
from lightning import LightningModule, Trainer
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import Dataset, TensorDataset
from waiting import Watch

from vaelab.data import DataModule, InMemory
from vaelab.data.batches import Batches, Loader
from vaelab.data.modality import modality_of
from vaelab.data.split import Split


class Numbers(Dataset):
    """The plainest torch dataset: [i] is (a tensor, an int)."""

    def __init__(self, num_examples):
        self.num_examples = num_examples

    def __len__(self):
        return self.num_examples

    def __getitem__(self, index):
        if not isinstance(index, int) or not 0 <= index < self.num_examples:
            raise IndexError(index)
        return torch.tensor([float(index)]), -index


def in_memory(num_examples):
    """Example i has x = i and y = -i."""
    return InMemory(torch.arange(num_examples)[:, None].float(), -torch.arange(num_examples))


class Source:
    """dataset(split), which remembers what it was asked for."""

    def __init__(self, make=in_memory, **sizes):
        self.make, self.sizes, self.asked = make, sizes, []

    def __call__(self, split):
        self.asked.append(split)
        return self.make(self.sizes[split])


def add_noise(x, generator=None):
    return x + torch.rand(x.shape, generator=generator)


def flatten(lists):
    return list(chain.from_iterable(lists))


def module(num_train=20, num_test=7, **options):
    return DataModule(**{"dataset": Source(train=num_train, test=num_test), "shape": [1], "batch_size": 4, "val_size": 5} | options)


def numbers(data, split):
    """The x of one pass, in order."""
    return torch.cat([x for x, _ in data.batches(split)]).flatten().long().tolist()


def epoch_of(num_examples, batch_size, training, world_size, epoch=0, seed=0):
    """The batches of every rank."""
    ranks = []
    for rank in range(world_size):
        batches = Batches(num_examples, batch_size, training, seed, rank, world_size)
        batches.set_epoch(epoch)
        ranks.append([batch.tolist() for batch in batches])
        assert len(batches) == len(ranks[-1])
    return ranks


sizes = pytest.mark.parametrize("num_examples", [7, 9, 10, 128])
ranks = pytest.mark.parametrize("world_size", [1, 2, 3])
of_lightning = pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning")


@ranks
@sizes
def test_training_deals_every_example_out_once(num_examples, world_size):
    shares = [flatten(batches) for batches in epoch_of(num_examples, 4, True, world_size)]
    assert len({len(share) for share in shares}) == 1
    assert set(flatten(shares)) == set(range(num_examples))
    assert 0 <= sum(map(len, shares)) - num_examples <= world_size - 1
    assert all(len(set(share)) == len(share) for share in shares)  # what comes twice comes to two ranks


@ranks
@sizes
def test_training_batches_are_full_but_the_last(num_examples, world_size):
    for batches in epoch_of(num_examples, 4, True, world_size):
        assert all(len(batch) == 4 for batch in batches[:-1])
        share = sum(map(len, batches))
        assert len(batches[-1]) == (share if share < 4 else 5 if share % 4 == 1 else share % 4 or 4)  # never one example alone


@ranks
@sizes
def test_training_shares_change_with_epoch_and_seed_alone(num_examples, world_size):
    first = epoch_of(num_examples, 4, True, world_size, epoch=3, seed=5)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert epoch_of(num_examples, 4, True, world_size, epoch=3, seed=5) == first
    assert torch.equal(torch.get_rng_state(), before)
    assert epoch_of(num_examples, 4, True, world_size, epoch=4, seed=5) != first
    assert epoch_of(num_examples, 4, True, world_size, epoch=3, seed=6) != first


def test_order_does_not_depend_on_the_number_of_ranks():
    """Dealt out like cards: what the ranks see at one moment is what one process would see next."""
    alone = flatten(epoch_of(12, 4, True, 1)[0])
    shares = [flatten(batches) for batches in epoch_of(12, 4, True, 3)]
    assert [example for together in zip(*shares, strict=True) for example in together] == alone


def test_every_place_in_the_order_is_as_likely():
    firsts = torch.tensor([epoch_of(4, 4, True, 1, epoch)[0][0][0] for epoch in range(2000)]).bincount(minlength=4)
    assert (firsts - 500).abs().max() < 4 * (2000 * 0.25 * 0.75) ** 0.5


@ranks
@sizes
def test_evaluation_sees_every_example_exactly_once(num_examples, world_size):
    ranks = epoch_of(num_examples, 4, False, world_size)
    assert sorted(flatten(flatten(ranks))) == list(range(num_examples))
    assert len({len(batches) for batches in ranks}) == 1  # no rank waits for another
    assert all(1 <= len(batch) <= 4 for batches in ranks for batch in batches)
    assert epoch_of(num_examples, 4, False, world_size, epoch=1, seed=1) == ranks


def test_validation_examples_are_taken_out_of_the_training_data():
    data = module(num_train=20, val_size=5)
    train, val = numbers(data, "train"), numbers(data, "val")
    assert (len(train), len(val)) == (15, 5)
    assert sorted(train + val) == list(range(20))


def test_y_goes_with_x():
    data = module()
    for split in ("train", "val", "test"):
        assert all(torch.equal(x[:, 0], -y.float()) for x, y in data.batches(split))


def test_the_split_depends_on_split_seed_alone():
    def val(**options):
        return sorted(numbers(module(num_train=100, **options), "val"))

    torch.manual_seed(7)
    first = val(split_seed=3)
    assert val(split_seed=3) == first
    assert val(split_seed=3, seed=1, batch_size=7, eval_batch_size=2) == first
    assert val(split_seed=0) != first
    assert val(split_seed=0) == val()


def test_the_order_depends_on_seed_alone():
    def train(**options):
        return numbers(module(num_train=100, **options), "train")

    first = train(seed=3)
    torch.manual_seed(7)
    assert train(seed=3) == first
    assert train(seed=3, batch_size=7) == first
    assert train(seed=0) != first
    assert train(seed=0) == train()


@pytest.mark.parametrize(("val_size", "num_val"), [(1, 1), (19, 19), (0.25, 5), (0.05, 1), (0.5, 10), (0.95, 19), (5.0, 5)])
def test_val_size_is_a_number_or_a_share(val_size, num_val):
    data = module(num_train=20, val_size=val_size)
    assert len(numbers(data, "val")) == num_val
    assert len(numbers(data, "train")) == 20 - num_val


@pytest.mark.parametrize("val_size", [0, 0.0, 20, 21, -1, -0.5, 0.01, 0.99])
def test_impossible_val_size_is_refused(val_size):
    data = module(num_train=20, val_size=val_size)
    with pytest.raises(ValueError, match=f"data.val_size={val_size} leaves nothing to .*: there are 20 training examples"):
        data.setup("fit")


def test_a_dataset_may_have_its_own_validation_split():
    source = Source(train=9, val=3, test=2)
    data = module(dataset=source, val_size=None)
    assert sorted(numbers(data, "train")) == list(range(9))
    assert numbers(data, "val") == [0, 1, 2]
    assert source.asked == ["train", "val"]


def test_test_data_are_not_read_before_they_are_asked_for():
    source = Source(train=20, test=7)
    data = module(dataset=source)
    for stage in ("fit", "validate", "fit"):
        data.setup(stage)
    numbers(data, "train")
    numbers(data, "val")
    assert source.asked == ["train"]  # and those once
    assert sorted(numbers(data, "test")) == list(range(7))
    numbers(data, "test")
    assert source.asked == ["train", "test"]


def test_training_data_are_not_read_to_test():
    source = Source(train=20, test=7)
    numbers(module(dataset=source), "test")
    assert source.asked == ["test"]


@pytest.mark.parametrize("eval_batch_size", [1, 3, 7, 500])
def test_evaluation_is_complete_and_in_one_random_order_at_any_batch_size(eval_batch_size):
    """A folder is sorted by class: what is measured on the first examples should not be measured on the first class."""
    data, whole = (module(num_train=20, num_test=7, eval_batch_size=size) for size in (eval_batch_size, 7))
    assert sorted(numbers(data, "test")) == list(range(7))
    assert numbers(data, "test") == numbers(whole, "test") != list(range(7))
    assert numbers(data, "val") == numbers(whole, "val") != sorted(numbers(data, "val"))
    assert all(1 <= len(x) <= eval_batch_size for x, _ in data.batches("test"))


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_another_shape_is_refused(stage):
    data = module(shape=[1, 28, 28])
    with pytest.raises(ValueError, match=r"data.shape says \[1, 28, 28\], but the (train|test) data have shape \[1\]"):
        data.setup(stage)


def test_shape_of_an_own_validation_split_is_checked():
    sizes = {"train": 1, "val": 2}
    data = module(dataset=lambda split: InMemory(torch.zeros(4, sizes[split])), val_size=None)
    with pytest.raises(ValueError, match=r"data.shape says \[1\], but the val data have shape \[2\]"):
        data.setup("fit")


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"eval_batch_size": 0}, {"batch_size": -1}])
def test_impossible_batch_size_is_refused(options):
    with pytest.raises(ValueError, match=r"batch_size=(0|-1) must be a whole number of at least 1"):
        module(**options)


def test_x_and_y_must_be_equally_many():
    with pytest.raises(ValueError, match="x has 3 examples, but y has 2"):
        InMemory(torch.zeros(3, 1), torch.zeros(2))


def tensors(num_examples):
    return TensorDataset(in_memory(num_examples).x, in_memory(num_examples).y)


@pytest.mark.parametrize("make", [Numbers, tensors], ids=["int_y", "tensor_y"])
def test_a_plain_dataset_works_as_one_in_memory(make):
    plain, memory = (module(dataset=Source(how, train=20, test=7)) for how in (make, in_memory))
    for split in ("train", "val", "test"):
        for (x, y), (same_x, same_y) in zip(plain.batches(split), memory.batches(split), strict=True):
            assert torch.equal(x, same_x)
            assert torch.equal(y, same_y)
            assert y.dtype == same_y.dtype


@pytest.mark.parametrize("make", [Numbers, in_memory], ids=["file_by_file", "in_memory"])
def test_workers_change_nothing(make):
    options = {"transform": add_noise, "static_seed": 3, "dataset": Source(make, train=20, test=7)}
    alone, helped = module(**options), module(num_workers=2, **options)
    for split in ("train", "val"):
        for batch, other in zip(alone.batches(split), helped.batches(split), strict=True):
            assert torch.equal(batch[0], other[0])
            assert torch.equal(batch[1], other[1])


def test_device_resident_data_are_the_same():
    plain, resident = module(), module(device_resident=True)
    for split in ("train", "val", "test"):
        assert numbers(resident, split) == numbers(plain, split)


def test_a_batch_of_resident_data_is_copied_from_nowhere():
    """On a GPU that is made believe: the order of an epoch is copied there once, and then no batch makes it wait."""
    with FakeTensorMode():
        x, y = torch.empty(20, 1, 4, 4, dtype=torch.uint8, device="cuda"), torch.empty(20, dtype=torch.long, device="cuda")
        split = Split(InMemory(x, y), torch.arange(20), modality_of((1, 4, 4)))
        loader = Loader(split, sampler=Batches(20, 4, training=True, device="cuda"), batch_size=None)
        batches = iter(loader)
        next(batches)
        with Watch() as watch:
            found = [(split.modality.scale(x), y) for x, y in batches]
    assert [(x.device.type, y.device.type, len(x)) for x, y in found] == [("cuda", "cuda", 4)] * 4
    assert not watch.found


def test_processes_cannot_load_resident_data():
    with pytest.raises(ValueError, match=r"data\.num_workers=2 processes cannot load data that data\.device_resident=true keeps"):
        module(device_resident=True, num_workers=2)


def test_files_cannot_be_device_resident():
    data = module(dataset=Source(Numbers, train=20, test=7), device_resident=True)
    with pytest.raises(ValueError, match=r"data.device_resident=true needs data that are in memory"):
        numbers(data, "train")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_reading_does_not_touch_the_generator_that_trains(split):
    before = torch.get_rng_state()
    numbers(module(), split)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_accepts_the_split_it_was_trained_with():
    data, again = module(seed=0), module(seed=1, batch_size=2)
    for each in (data, again):
        each.setup("fit")
    again.load_state_dict(data.state_dict())
    assert again.splits["val"].indices.tolist() == data.splits["val"].indices.tolist()


@pytest.mark.parametrize("options", [{"split_seed": 1}, {"val_size": 6}, {"num_train": 21}, {"num_train": 19}])
def test_a_checkpoint_refuses_another_split(options):
    data, other = module(), module(**options)
    for each in (data, other):
        each.setup("fit")
    with pytest.raises(ValueError, match=r"was trained on 15 examples and validated on 5, .* check paths.data_dir, data.root and"):
        other.load_state_dict(data.state_dict())


def test_a_checkpoint_refuses_other_training_data_of_the_same_validation_split():
    data, other = (module(dataset=Source(train=size, val=3), val_size=None) for size in (20, 19))
    for each in (data, other):
        each.setup("fit")
    with pytest.raises(ValueError, match="was trained on 20 examples and validated on 3, but the data found now split into 19 and 3"):
        other.load_state_dict(data.state_dict())


class Recorder(LightningModule):
    """Trains nothing, and remembers every batch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.train_batches, self.val_batches, self.test_batches = [], [], []

    def training_step(self, batch, batch_idx):
        self.train_batches.append(batch)
        return self.weight * 0

    def validation_step(self, batch, batch_idx):
        self.val_batches.append(batch)

    def test_step(self, batch, batch_idx):
        self.test_batches.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "use_distributed_sampler": False}
    return Trainer(accelerator="cpu", devices=1, default_root_dir=folder, **quiet, **options)


@of_lightning
def test_epochs_of_a_trainer(tmp_path):
    """Lightning tells the sampler the epoch, and has training batches alone transformed anew."""
    black = InMemory(torch.zeros(20, 1, 8, 8, dtype=torch.uint8), torch.arange(20))
    data = DataModule(lambda split: black, [1, 8, 8], batch_size=4, val_size=5, transform=add_noise)
    recorder = Recorder()
    trainer(tmp_path, max_epochs=2, num_sanity_val_steps=2, enable_checkpointing=False).fit(recorder, data)
    epochs = [recorder.train_batches[:4], recorder.train_batches[4:]]
    orders = [torch.cat([y for _, y in epoch]) for epoch in epochs]
    assert torch.equal(orders[0].sort().values, orders[1].sort().values)
    assert len(orders[0].unique()) == 15
    assert not torch.equal(*orders)
    noise = torch.cat([torch.cat([x for x, _ in epoch]) for epoch in epochs])
    assert ((noise >= 0) & (noise < 1)).all()  # added once
    assert len(noise.flatten(1).unique(dim=0)) == 30  # drawn anew
    sanity, first, second = recorder.val_batches
    for x, y in (sanity, first, second):
        assert torch.equal(x, next(data.batches("val"))[0])
        assert torch.equal(y, next(data.batches("val"))[1])


@of_lightning
def test_epochs_of_a_trainer_with_a_static_seed(tmp_path):
    """Each training image is transformed once, and is the same one in every epoch."""
    black = InMemory(torch.zeros(20, 1, 8, 8, dtype=torch.uint8), torch.arange(20))
    data = DataModule(lambda split: black, [1, 8, 8], batch_size=4, val_size=5, transform=add_noise, static_seed=0)
    recorder = Recorder()
    trainer(tmp_path, max_epochs=2, enable_checkpointing=False).fit(recorder, data)
    x, y = (torch.cat(parts) for parts in zip(*recorder.train_batches, strict=True))
    assert ((x >= 0) & (x < 1)).all()
    assert len(x.flatten(1).unique(dim=0)) == len(y.unique()) == 15
    order = y.argsort(stable=True)
    assert torch.equal(x[order][::2], x[order][1::2])


@of_lightning
def test_a_checkpoint_can_be_tested(tmp_path):
    """trainer.test(ckpt_path=...) restores the data module too, which has read no training data then."""
    first = trainer(tmp_path, max_epochs=1, enable_checkpointing=False)
    first.fit(Recorder(), module())
    first.save_checkpoint(tmp_path / "last.ckpt")
    recorder = Recorder()
    trainer(tmp_path).test(recorder, module(), ckpt_path=tmp_path / "last.ckpt", verbose=False, weights_only=True)
    assert sorted(torch.cat([x for x, _ in recorder.test_batches]).flatten().tolist()) == list(range(7))


def black_and_white(x, generator=None):
    return torch.bernoulli(x.clamp(0, 1), generator=generator)


def black_and_white_at_first(x, generator=None):
    return x if x.max() > 0.6 else black_and_white(x, generator)


@pytest.mark.parametrize(
    ("transform", "most", "dtype"),
    [
        (black_and_white, 2**28, torch.uint8),
        (black_and_white_at_first, 2**28, torch.float32),
        (add_noise, 2**28, torch.float32),
        (add_noise, 40, None),
    ],
)
def test_what_a_transform_draws_for_evaluation_is_drawn_once_and_kept(transform, most, dtype, monkeypatch):
    monkeypatch.setattr("vaelab.data.split.MOST_KEPT", most)
    calls = []

    def counted(x, generator=None):
        calls.append(1)
        return transform(x, generator=generator)

    dataset, indices, modality = InMemory(torch.arange(20)[:, None] / 20.0), torch.arange(20), module().modality
    split, fresh = (Split(dataset, indices, modality, each, seed=3) for each in (counted, transform))
    orders = [torch.arange(12), torch.arange(20), torch.arange(0), torch.tensor([5, 3, 19])]
    assert all(torch.equal(split[batch][0], Split(dataset, indices, modality, transform, seed=3)[batch][0]) for batch in orders)
    assert torch.equal(split[torch.arange(20)][0], fresh[torch.arange(20)][0])
    assert (len(calls) == 12 + 20) == (dtype is not None)
    assert (None if split._kept is None else split._kept.dtype) == dtype
