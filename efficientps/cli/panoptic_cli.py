"""The command line of training and evaluation: Lightning's, with the project's callbacks and checks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

import efficientps.backbones
import efficientps.networks.detr
import efficientps.networks.efficientps  # noqa: F401 - a configuration can name their classes without a module
from efficientps.cli.arguments import RUNS
from efficientps.cli.device_errors import check_bfloat16, explain_device, unused_gpu
from efficientps.cli.errors import USER_ERRORS, note_keys, raised_by_constructor
from efficientps.cli.model_categories import categories_of_model, check_same_classes
from efficientps.cli.network_defaults import chosen_network
from efficientps.cli.refused_settings import no_step, refuse_nulls, refuse_settings
from efficientps.cli.repeated_keys import check_repeated_keys
from efficientps.cli.resuming import Resumption, read_run
from efficientps.cli.sections import CALLBACKS, SECTIONS
from efficientps.data.loading.datamodule import PanopticDataModule
from efficientps.data.sources.cityscapes import CityscapesDataModule
from efficientps.structures.categories import Categories
from efficientps.training.callbacks.cudnn_autotuning import CudnnAutotuning
from efficientps.training.callbacks.progress_lines import default_progress
from efficientps.training.checkpoints.last import LastCheckpoint
from efficientps.training.checkpoints.read import check_checkpoint, read_checkpoint
from efficientps.training.checkpoints.resolve import CHECKPOINT_NAME, newest_first, resolve_checkpoint
from efficientps.training.checkpoints.write import AtomicCheckpointIO
from efficientps.training.loggers.metrics_csv import MetricsCsv
from efficientps.training.module import PanopticModule
from efficientps.training.run_files import RunConfig, TensorBoardEvents, run_loggers
from efficientps.training.run_folder import RunFolder


class PanopticCLI(LightningCLI):
    """The command line: options of module, data, trainer and callbacks, by their constructors.

    Args:
        args: words of the command line, or a mapping with the configuration.
        prog: name of the program in its help; ``None`` is the file that Python runs.
        callbacks: those of every run, which have no options.
    """

    def __init__(self, args: ArgsType, *, prog: str | None, callbacks: list[pl.Callback]) -> None:
        """Parse the arguments, build what they describe, and run the command."""
        self._first_word = args[0] if isinstance(args, list) and args else None
        super().__init__(
            PanopticModule,
            PanopticDataModule,
            subclass_mode_data=True,
            save_config_callback=RunConfig,
            trainer_defaults={
                "callbacks": callbacks,
                "default_root_dir": RUNS,
                "use_distributed_sampler": False,  # the data module shards, so that no image is counted twice
                "log_every_n_steps": 10,
            },
            parser_kwargs={"description": "Train, evaluate and run a panoptic network.", "prog": prog},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args,
        )

    def init_parser(self, **kwargs: object) -> LightningArgumentParser:
        """Let the parser raise errors, which ``main`` explains, and refuse abbreviated options."""
        return super().init_parser(exit_on_error=False, allow_abbrev=False, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks, and pass values from the data to the module."""
        for key, callback in CALLBACKS.items():
            parser.add_lightning_class_args(callback, key)
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/PQ",
                "checkpoint.mode": "max",
                "checkpoint.save_top_k": 2,
                "checkpoint.filename": CHECKPOINT_NAME,
                "checkpoint.auto_insert_metric_name": False,
                "checkpoint.enable_version_counter": False,  # a validation that is made again has the same file
                "data": {"class_path": CityscapesDataModule.__name__},
            }
        )
        parser.link_arguments("data", "model.categories", compute_fn=self._categories, apply_on="instantiate")
        parser.link_arguments("data.batch_size", "model.batch_size", apply_on="instantiate")
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=_seed)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override] # static in the base class
        """Name the arguments of the trainer's methods that are not options, because this class sets them.

        Where the command line begins with a command, there is no other: a parser is built for each.
        """
        fixed = {"model", "datamodule", "weights_only", "verbose", "return_predictions"}
        commands = {
            "fit": fixed | {"train_dataloaders", "val_dataloaders"},
            "validate": fixed | {"dataloaders"},
            "test": fixed | {"dataloaders"},
            "predict": fixed | {"dataloaders"},
        }
        first = self._first_word
        return {first: commands[first]} if first in commands else commands

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse words or a mapping; the base class would warn of words given to a program with a command line."""
        if isinstance(args, list):
            check_repeated_keys(args)
        if isinstance(args, list) and (network := chosen_network(args)):
            for subparser in self._subcommand_parsers.values():
                subparser.set_defaults({"model.network": {"class_path": network}})
        self.config = parser.parse_args(args) if isinstance(args, list) else parser.parse_object(args)

    def _parse_ckpt_path(self) -> None:
        """Read no configuration from the checkpoint, as the base class would: it is an untrusted file."""

    def _categories(self, data: PanopticDataModule) -> Categories:
        return categories_of_model(data, str(self.subcommand), self.config[self.subcommand].get("ckpt_path"))

    def instantiate_classes(self) -> None:
        """Build the objects that the configuration describes; an error of a constructor is one of a value in it."""
        refuse_nulls(self.config[self.subcommand], SECTIONS)
        with self._keys_on_errors():
            try:
                super().instantiate_classes()
            except (RuntimeError, TypeError, ArithmeticError, ValueError) as error:
                cause = raised_by_constructor(error)
                if isinstance(cause, USER_ERRORS) or explain_device(cause):
                    raise cause from cause.__cause__
                first_line = str(cause).partition("\n")[0].removesuffix(".")
                raise ValueError(
                    f"What the configuration describes cannot be built: {first_line}; --debug shows where."
                ) from cause

    def instantiate_trainer(self, **kwargs: object) -> pl.Trainer:
        """Add loggers, progress bar, cuDNN's autotuning and the writer of checkpoints to the trainer.

        The checkpoint callbacks are left out where ``trainer.enable_checkpointing`` is false.
        """
        settings = self.config_init[self.subcommand].trainer
        refuse_settings(self.subcommand, settings)
        if not settings.fast_dev_run:
            users = [] if isinstance(settings.logger, (bool, type(None))) else _as_list(settings.logger)
            folder = RunFolder(settings.default_root_dir)
            kwargs["logger"] = [*run_loggers(folder, enabled=settings.logger is not False), *users]
        callbacks: list[pl.Callback] = []
        if settings.enable_progress_bar is not False:
            callbacks += default_progress(_as_list(settings.callbacks), refresh_rate=settings.log_every_n_steps or 10)
        if settings.benchmark is None and not settings.deterministic:
            callbacks.append(CudnnAutotuning())
        kwargs["callbacks"] = [*(settings.callbacks or []), *callbacks]
        if settings.enable_checkpointing is False or settings.fast_dev_run:
            for key in ("checkpoint", "last_checkpoint"):
                self._parser(self.subcommand).callback_keys.remove(key)
        kwargs["plugins"] = [*_as_list(settings.plugins), AtomicCheckpointIO()]
        trainer = super().instantiate_trainer(**kwargs)
        check_bfloat16(trainer)
        if str(settings.accelerator) == "auto" and trainer.strategy.root_device.type == "cpu":
            if sentence := unused_gpu():
                print(sentence, file=sys.stderr)
        return trainer

    def fit(self, model: PanopticModule, datamodule: pl.LightningDataModule, ckpt_path: str | None) -> None:
        """Train, from the start or from a checkpoint."""
        path = self._resolve(ckpt_path)
        if path is not None:
            check_same_classes(path, model.categories)
            self._go_on_in_its_folder(path)
        elif ckpt_path is not None:
            self._begin()
        try:
            with self._keys_on_errors():
                before = 0 if path is None else read_checkpoint(path)["global_step"]
                self.trainer.fit(model, datamodule=datamodule, ckpt_path=path, weights_only=True)
                if self.trainer.global_step == before and self.trainer.is_global_zero:
                    print(no_step(self.trainer), file=sys.stderr)
        except Exception as error:
            if self.trainer.is_global_zero and explain_device(error):
                print(self._kept_checkpoint(path), file=sys.stderr)
            raise

    def _go_on_in_its_folder(self, checkpoint: Path) -> None:
        """Let the run go on in the folder that it began in, where the checkpoint lies in one below the root."""
        run, root = read_run(checkpoint), Path(self.trainer.default_root_dir).resolve()
        if run is None or root not in run[0].resolve().parents or checkpoint.parent.parent != run[0]:
            return
        self._take(run[0], read_checkpoint(checkpoint)["global_step"])

    def _begin(self) -> None:
        """Begin a new run, or again one that stopped before its first checkpoint, in its folder; say which."""
        root, resumption = self.trainer.default_root_dir, self._resumption()
        if begun := resumption.without_checkpoint(root):
            self._take(begun, 0)
        if self.trainer.is_global_zero:
            print(f"{resumption.beginning(root, begun)}: training from the start.")

    def _take(self, folder: Path, step: int) -> None:
        """Let the loggers go on, from an optimizer step, in the folder of a run."""
        for logger in self.trainer.loggers:
            if isinstance(logger, MetricsCsv):
                logger.folder.resume(folder)
                if step == 0:
                    logger.cut(num_rows=0, step=0)
            elif isinstance(logger, TensorBoardEvents):
                logger.go_on_from(step)

    def _kept_checkpoint(self, resumed: Path | None) -> str:
        """Say in one sentence from which checkpoint a run that failed can continue."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined] # set outside the class
            if isinstance(callback, LastCheckpoint) and callback.path.is_file():
                steps = read_checkpoint(callback.path)["global_step"]
                return f"{callback.path} holds the run up to step {steps}; --ckpt_path last continues from there."
        return f"This run had written no checkpoint yet{f'; {resumed} is unchanged' if resumed else ''}."

    def validate(self, model: PanopticModule, datamodule: pl.LightningDataModule, ckpt_path: str | None) -> None:
        """Evaluate on the validation images."""
        path = self._resolve_weights(model, ckpt_path)
        with self._keys_on_errors():
            self.trainer.validate(model, datamodule=datamodule, ckpt_path=path, verbose=False, weights_only=True)

    def test(self, model: PanopticModule, datamodule: pl.LightningDataModule, ckpt_path: str | None) -> None:
        """Evaluate on the test images."""
        path = self._resolve_weights(model, ckpt_path)
        with self._keys_on_errors():
            self.trainer.test(model, datamodule=datamodule, ckpt_path=path, verbose=False, weights_only=True)

    def predict(self, model: PanopticModule, datamodule: pl.LightningDataModule, ckpt_path: str | None) -> None:
        """Predict on images and write the results; nothing is kept in memory."""
        path = self._resolve_weights(model, ckpt_path)
        with self._keys_on_errors():
            self.trainer.predict(
                model, datamodule=datamodule, ckpt_path=path, return_predictions=False, weights_only=True
            )

    @contextmanager
    def _keys_on_errors(self) -> Iterator[None]:
        """Note on an error of the library which keys of the configuration hold the arguments that it names."""
        try:
            yield
        except Exception as error:
            note_keys(error, dict(self.config[self.subcommand].items()))
            raise

    def _resolve_weights(self, model: PanopticModule, ckpt_path: str | None) -> Path | None:
        """Find and check the checkpoint; say so if the network has no trained weights at all."""
        path = self._resolve(ckpt_path, needed=True)
        if path is None and model.init_from is None and self.trainer.is_global_zero:
            print("Neither --ckpt_path nor --model.init_from is given: the network is untrained.")
        return path

    def _resolve(self, ckpt_path: str | None, *, needed: bool = False) -> Path | None:
        """Find and check the checkpoint before anything is set up, so that a bad one leaves no files behind."""
        if ckpt_path is None:
            return None
        choice, root, is_fit = str(ckpt_path), self.trainer.default_root_dir, self.subcommand == "fit"
        resumption, role = self._resumption(), "last" if is_fit and choice == "auto" else choice
        try:
            path = resolve_checkpoint(role, root, fits=resumption.fits if is_fit else resumption.has_this_model)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"--ckpt_path {choice}: {error}") from None
        if path is None and choice == "last" and (others := newest_first(root)):
            if not is_fit:
                path = resolve_checkpoint(choice, root)
                print(f"No run below {root} has this model; taking the newest, {path}.")
            elif resumption.without_checkpoint(root) is None:
                raise ValueError(resumption.refusal(others[0], root))
        if path is None and (needed or choice == "best"):
            raise FileNotFoundError(f"--ckpt_path {choice}: there is no such checkpoint below {root}.")
        if path is not None:
            check_checkpoint(path, resume=is_fit)
            if is_fit:
                resumption.check(path)
        return path

    def _resumption(self) -> Resumption:
        """Return what decides which runs this configuration can go on."""
        parser = self._parser(self.subcommand)

        def dumped(config: Any) -> dict[str, Any]:
            return dict(yaml.safe_load(parser.dump(config, skip_validation=True)))

        given = dumped(self.config[self.subcommand])
        return Resumption(given, lambda saved: dumped(parser.parse_object(saved)))


def _seed(seed_everything: bool | int) -> int:
    """Return the seed of the data: that of everything else, or 0 or 1 where this is switched off or chosen freely."""
    return int(seed_everything or 0)


def _as_list(plugins: Any) -> list[Any]:
    return list(plugins) if isinstance(plugins, (list, tuple)) else [plugins] if plugins else []
