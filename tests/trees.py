"""Folders as trainers leave them: file by file the same names, with tiny weights in them."""

from __future__ import annotations

from pathlib import Path

from helpers import write_adapter, write_full, write_json


def trainer_state(folder: Path, step: int, best: str | None = None) -> None:
    write_json(folder / "trainer_state.json", {"global_step": step, "best_model_checkpoint": best})


def state_of_the_optimizer(folder: Path) -> None:
    """What every step of transformers' Trainer has beside the weights; pickles all of them."""
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        (folder / name).write_bytes(b"\x80\x04not read")


def trainer(root: Path) -> Path:
    """transformers' Trainer and TRL: steps, and the final weights above them."""
    for step in (10, 20):
        folder = write_adapter(root / f"checkpoint-{step}", seed=step)
        state_of_the_optimizer(folder)
        trainer_state(folder, step)
    (root / "runs/Nov25_host").mkdir(parents=True)
    (root / "runs/Nov25_host/events.out.tfevents.1").write_bytes(b"x")
    return write_adapter(root)


def trainer_full(root: Path) -> Path:
    """The same of a full checkpoint."""
    for step in (10, 20):
        folder = write_full(root / f"checkpoint-{step}")
        state_of_the_optimizer(folder)
        trainer_state(folder, step)
    return write_full(root)


def axolotl(root: Path) -> Path:
    """axolotl: as the Trainer, its config and log beside, and ``merged/`` after merge-lora."""
    trainer(root)
    (root / "debug.log").write_text("")
    (root / "axolotl_config.yaml").write_text("base_model: owner/tiny\n")
    write_full(root / "merged")
    return root


def llama_factory(root: Path) -> Path:
    """LLaMA-Factory: as the Trainer, with logs, plots and the board's settings."""
    trainer(root)
    for name in ("trainer_log.jsonl", "training_args.yaml", "llamaboard_config.yaml"):
        (root / name).write_text("")
    (root / "training_loss.png").write_bytes(b"\x89PNG")
    write_json(root / "all_results.json", {"eval_loss": 1.25, "train_loss": 1.5})
    return root


def ms_swift(root: Path) -> Path:
    """ms-swift: ``vN-date/checkpoint-N`` with args.json, images and nothing above the steps."""
    version = root / "v0-20241125-101500"
    write_json(version / "args.json", {"model": "owner/tiny", "tuner_type": "lora"})
    (version / "logging.jsonl").write_text("{}\n")
    (version / "images").mkdir()
    for step in (10, 20):
        folder = write_adapter(version / f"checkpoint-{step}", seed=step)
        write_json(folder / "args.json", {"model": "owner/tiny"})
        write_json(folder / "additional_config.json", {"lora_dtype": None})
        state_of_the_optimizer(folder)
        trainer_state(folder, step, f"{version.resolve()}/checkpoint-10")
    return root


def deepspeed(folder: Path, step: int = 10) -> Path:
    """What DeepSpeed adds to a step: shards of the optimizer, ``latest``, its own script."""
    shards = folder / f"global_step{step}"
    shards.mkdir(parents=True)
    for name in ("bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "mp_rank_00_model_states.pt"):
        (shards / name).write_bytes(b"PK")
    (folder / "latest").write_text(shards.name)
    (folder / "zero_to_fp32.py").write_text("# DeepSpeed's own\n")
    write_json(folder / "config.json", {"model_type": "llama"})
    return folder


def fsdp(folder: Path) -> Path:
    """What accelerate leaves of a step with FSDP and SHARDED_STATE_DICT."""
    for name in ("pytorch_model_fsdp_0", "optimizer_0"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__0_0.distcp").write_bytes(b"x")
        (folder / name / ".metadata").write_bytes(b"x")
    write_json(folder / "config.json", {"model_type": "llama"})
    return folder
