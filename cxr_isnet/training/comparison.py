"""Methods side by side: every method trained with every seed on the same data, at the same budget."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from cxr_isnet.config import as_plain
from cxr_isnet.engine import RunDirectory, ray_cluster
from cxr_isnet.errors import InputError, sigterm_interrupts
from cxr_isnet.evaluation import TrainingTables, read_predictions
from cxr_isnet.files import SafeFormatter, file_slug
from cxr_isnet.inference import Classifier, conditions
from cxr_isnet.manifests import read_manifests
from cxr_isnet.networks import NetworkConfig, find_backbone
from cxr_isnet.objectives import METHODS, find_method, options_of
from cxr_isnet.training.config import TrainConfig
from cxr_isnet.training.experiment import train
from cxr_isnet.training.frozen_part import segmenter_training, train_segmenter_once
from cxr_isnet.training.initialisation import initial_checkpoint, parse_config
from cxr_isnet.training.partitions import divided

_log = logging.getLogger(__name__)

_SEGMENTERS = "segmenters"
_DECIDED_HERE = ("output", "resume", "register", "seed", "method")
"""Settings of a training that a variant cannot change, but for its method."""


@dataclass(frozen=True)
class Trial:
    """One training of a comparison.

    Attributes:
        method: Name of its row: of a method, or of a variant.
        config: What is trained.
    """

    method: str
    config: TrainConfig

    @property
    def name(self) -> str:
        """As in messages and file names."""
        return f"{self.method}, seed {self.config.seed}"

    @property
    def directory(self) -> RunDirectory:
        return RunDirectory(Path(self.config.output))

    @property
    def finished(self) -> bool:
        return self.directory.metrics_file.is_file()


def plan_trials(
    experiment: TrainConfig,
    output: Path,
    methods: Sequence[str],
    variants: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
) -> tuple[Trial, ...]:
    """Every method and variant with every seed; trains nothing.

    Args:
        experiment: What they have in common. Its method, seed, output and register do not matter.
        output: Folder; the trainings lie in `<output>/trainings/<method>/seed_<seed>`.
        methods: Names of methods.
        variants: Name to the settings in which it differs from the experiment, `method` among them.
        seeds: Seeds, also of the split where the manifests do not say who is held out.

    Raises:
        InputError: A method or setting is unknown, a name is given twice, or two names give one folder.
    """
    entries: dict[str, Mapping[str, Any]] = {name: {"method": name} for name in methods}
    if len(entries) < len(methods) or set(entries) & set(variants):
        raise InputError(f"methods {list(methods)} and variants {list(variants)}: a name stands there twice")
    entries |= variants
    if not entries or not seeds:
        raise InputError("methods, or seeds, is empty: name at least one")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds is {list(seeds)}: a seed stands there twice")
    folders = {file_slug(name) for name in entries}
    if len(folders) < len(entries):
        raise InputError(f"{sorted(entries)} do not differ in letters and digits: rename a variant")
    trials = []
    for name, settings in entries.items():
        config = with_settings(experiment, settings, f"variant '{name}'")
        if "network" not in settings:
            config = _with_fitting_network(config)
        for seed in seeds:
            folder = output / "trainings" / file_slug(name) / f"seed_{seed}"
            trial = replace(config, seed=seed, output=str(folder), register=None, resume=False)
            trials.append(Trial(name, _with_shared_segmenter(trial, output / _SEGMENTERS / f"seed_{seed}")))
    return tuple(trials)


def heatmap_weights(trials: Sequence[Trial], reference: str) -> dict[str, float]:
    """Rows that are the reference's training but for the weight P of the heatmap loss, and that weight.

    Args:
        trials: Of the comparison.
        reference: A row.

    Returns:
        Name of the row to P, the reference among them; empty where its method has no such weight.
    """
    first = {trial.method: trial.config for trial in reversed(trials)}

    def apart(config: TrainConfig) -> tuple[Any, float | None]:
        method = find_method(config.method)
        options = as_plain(options_of(config.options, method))
        weight = options.pop("heatmap_weight", None)
        plain = {**as_plain(config), "options": options}
        return {key: value for key, value in plain.items() if key not in ("output", "seed")}, weight

    same, weight = apart(first[reference])
    if weight is None:
        return {}
    found = {name: apart(config) for name, config in first.items()}
    return {name: weight for name, (settings, weight) in found.items() if settings == same and weight is not None}


def _with_fitting_network(config: TrainConfig) -> TrainConfig:
    """The method's own network in place of the experiment's, where it is made for one of another class."""
    wanted = find_method(config.method).network_class
    fits = config.network is None or issubclass(find_backbone(config.network.name).network_class, wanted)
    return config if fits else replace(config, network=None)


def _with_shared_segmenter(config: TrainConfig, folder: Path) -> TrainConfig:
    """A method that would train a lung segmenter of its own takes the one that all such methods share."""
    method = find_method(config.method)
    if (
        method.frozen != "segmenter"
        or method not in METHODS
        or options_of(config.options, method).segmenter is not None
    ):
        return config
    shared = replace(options_of(config.options, method), segmenter=str(RunDirectory(folder).best_file))
    return replace(config, options=replace(config.options, **{method.name: shared}))


def with_settings(config: TrainConfig, settings: Mapping[str, Any], source: str) -> TrainConfig:
    """A config with some of its settings changed, nested as in YAML.

    Raises:
        InputError: A setting is unknown or decided by the comparison, or has a value that it cannot have.
    """
    for key in settings:
        if key in _DECIDED_HERE and key != "method":
            raise InputError(f"{source} sets {key}, which the comparison sets by itself: leave it out")
    return parse_config(_merged(as_plain(config), settings), TrainConfig, source) if settings else config


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        before = merged.get(key)
        merged[key] = _merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged


def run_trials(
    trials: Sequence[Trial], logs: Path, *, parallel: int, ray: str | None, tags: Mapping[str, object]
) -> dict[str, str]:
    """Trains what is not trained yet. One that fails does not stop the others.

    Each training is a process of its own, with its log in a file. One that was interrupted goes on where it was.

    Args:
        trials: What is to be trained.
        logs: Folder of the log files, made when missing.
        parallel: Trainings at a time, in processes that share the cores; each gets a GPU in turn where there are any.
        ray: Address of a Ray cluster that trains instead, as `auto` or `127.0.0.1:6379`; its machines must see the
            same files under the same paths.
        tags: Of the MLflow runs.

    Returns:
        Name of a training to why it failed.
    """
    logs.mkdir(parents=True, exist_ok=True)
    waiting = [trial for trial in trials if not trial.finished]
    _prepare_shared(waiting)
    progress = _Progress(trials, parallel)
    jobs = [_Job(trial, str((logs / f"{file_slug(trial.name)}.log").absolute()), dict(tags)) for trial in waiting]
    runner = _on_ray(jobs, ray) if ray is not None else _in_processes(jobs, parallel)
    failed = {}
    for trial, reason, seconds in runner:
        if reason:
            failed[trial.name] = reason
            _log.warning("%s failed: %s", trial.name, reason)
        progress.ended(trial, reason, seconds)
    return failed


def _prepare_shared(trials: Sequence[Trial]) -> None:
    """Trains the weights that several trainings start from, and the segmenters that they share, before these begin."""
    for source, network in dict.fromkeys(
        (trial.config.init_from, trial.config.network or NetworkConfig(find_method(trial.config.method).network))
        for trial in trials
        if trial.config.init_from is not None
    ):
        initial_checkpoint(source, train, network)
    for trial in trials:
        folder = _segmenter_folder(trial)
        if folder is not None:
            train_segmenter_once(segmenter_training(trial.config, str(folder)))


def _segmenter_folder(trial: Trial) -> Path | None:
    """Where the shared segmenter of a training lies; None where it has none."""
    method = find_method(trial.config.method)
    named = method.frozen == "segmenter" and method in METHODS
    path = Path(options_of(trial.config.options, method).segmenter or "") if named else Path()
    return path.parent if path.parent.parent.name == _SEGMENTERS else None


@dataclass(frozen=True)
class _Job:
    trial: Trial
    log: str
    tags: dict[str, object]


class _Progress:
    """Says after every training what is done and how long the rest will take."""

    def __init__(self, trials: Sequence[Trial], parallel: int) -> None:
        self._trials = trials
        self._parallel = parallel
        self._states = {trial.name: "trained before" if trial.finished else "waiting" for trial in trials}
        self._seconds: list[float] = []

    def ended(self, trial: Trial, reason: str, seconds: float) -> None:
        self._states[trial.name] = "failed" if reason else f"{seconds:.0f} s"
        self._seconds.append(seconds)
        left = sum(state == "waiting" for state in self._states.values())
        rest = sum(self._seconds) / len(self._seconds) * left / max(1, self._parallel)
        rows = [f"  {name:<40} {state}" for name, state in self._states.items()]
        _log.info("%s\n%d of %d left, about %.0f min", "\n".join(rows), left, len(self._trials), rest / 60)


Outcome = tuple[Trial, str, float]
"""A training, why it failed ("" where it did not), and its seconds."""


def _in_processes(jobs: Sequence[_Job], parallel: int) -> Iterator[Outcome]:
    """Trains in processes, so many at a time; a process that dies fails its training alone."""
    context = multiprocessing.get_context("spawn")
    threads = min(torch.get_num_threads(), max(1, (os.cpu_count() or 1) // parallel))
    gpus = torch.cuda.device_count()
    queue = list(jobs)
    running: dict[Any, tuple[Any, _Job, int, Connection, float]] = {}
    free = list(range(parallel))
    try:
        while queue or running:
            while queue and free:
                job, slot = queue.pop(0), free.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(job, threads, theirs), name=job.trial.name)
                with _visible_gpu(slot % gpus if gpus > 1 else None):
                    process.start()
                theirs.close()
                running[process.sentinel] = (process, job, slot, ours, time.monotonic())
            for sentinel in wait(list(running)):
                process, job, slot, ours, start = running.pop(sentinel)
                process.join()
                try:
                    reason = ours.recv()
                except EOFError:
                    reason = f"its process ended with status {process.exitcode}; its log is {job.log}"
                free.append(slot)
                yield job.trial, reason, time.monotonic() - start
    finally:
        for process, *_ in running.values():
            process.terminate()
            process.join()


@contextmanager
def _visible_gpu(index: int | None) -> Iterator[None]:
    """Shows one GPU to the process that is started in the block."""
    if index is None:
        yield
        return
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    listed = before.split(",") if before else None
    os.environ["CUDA_VISIBLE_DEVICES"] = listed[index] if listed else str(index)
    try:
        yield
    finally:
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def _work(job: _Job, threads: int, answer: Connection) -> None:
    """What a process does; it ends with its parent, lest two processes train one folder after a kill."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        with sigterm_interrupts():
            answer.send(_train_logged(job.trial.config, job.log, job.tags))
    except KeyboardInterrupt:
        answer.send("interrupted")


class _LogFile(logging.FileHandler):
    """A training's log; on a full disk it lacks lines, and the training says why it fails."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass

    def close(self) -> None:
        with suppress(OSError):
            super().close()


def _train_logged(config: TrainConfig, log: str, tags: Mapping[str, object]) -> str:
    """Trains, or goes on; returns why it failed, "" where it did not."""
    handler = _LogFile(log, encoding="utf-8")
    handler.setFormatter(SafeFormatter("%(asctime)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        train(replace(config, resume=RunDirectory(Path(config.output)).config_file.is_file()), tags=tags)
    except Exception as error:
        logging.getLogger(__name__).exception("the training failed")
        return f"{type(error).__name__}: {error}"
    finally:
        root.removeHandler(handler)
        handler.close()
    return ""


def _on_ray(jobs: Sequence[_Job], address: str) -> Iterator[Outcome]:
    """Trains as tasks of a Ray cluster, one core each and a GPU where the cluster has any."""
    with ray_cluster(address):
        import ray

        gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
        remote: Callable[..., Any] = ray.remote(num_cpus=1, num_gpus=gpus, max_calls=1, max_retries=2)(_ray_task).remote
        pending = {remote(job.trial.config, job.log, job.tags, os.getcwd()): job for job in jobs}
        while pending:
            (done, *_), _ = ray.wait(list(pending), num_returns=1)
            job = pending.pop(done)
            try:
                reason, seconds = ray.get(done)
            except ray.exceptions.RayError as error:
                reason, seconds = f"{type(error).__name__}: {error}", 0.0
            yield job.trial, reason, seconds


def _ray_task(config: TrainConfig, log: str, tags: Mapping[str, object], folder: str) -> tuple[str, float]:
    os.chdir(folder)
    torch.set_num_threads(1)
    start = time.monotonic()
    return _train_logged(config, log, tags), time.monotonic() - start


def trial_tables(trial: Trial) -> TrainingTables:
    """The predictions of a finished training."""
    classes = trial.config.data.classes
    return TrainingTables(
        {"clean": read_predictions(Path(trial.config.output) / "validation" / "clean" / "predictions.csv", classes)},
        {
            condition.name: read_predictions(
                Path(trial.config.output) / "external" / condition.name / "predictions.csv", classes
            )
            for condition in conditions(trial.config.data.mark)
        },
    )


def trial_costs(trials: Sequence[Trial]) -> dict[str, float]:
    """Costs of a method, means over its finished trainings.

    Returns:
        `parameters`; `training_ms_per_image`: of one image in one epoch, on the machine that trained; and
        `inference_ms_per_image`: of the network alone, measured here on the CPU with batches of 8.
    """
    data = trials[0].config.data
    frame = read_manifests(data.training, classes=data.classes)
    trained = []
    for trial in trials:
        metrics = json.loads(trial.directory.metrics_file.read_text(encoding="utf-8"))
        seen = metrics["epochs"] * len(divided(frame, trial.config.data, trial.config.seed)["train"])
        trained.append(1000 * metrics["seconds"] / seen)
    classifier = Classifier.load(trials[0].directory.best_file, trust=True)
    size = classifier.image.size
    images = torch.rand(8, 1, size, size, generator=torch.Generator().manual_seed(0))
    classifier.probabilities(images)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        classifier.probabilities(images)
        times.append(time.perf_counter() - start)
    return {
        "parameters": float(sum(p.numel() for p in classifier.network.parameters())),
        "training_ms_per_image": sum(trained) / len(trained),
        "inference_ms_per_image": 1000 * sorted(times)[2] / len(images),
    }
