"""TRL's DPOTrainer on the same model folder, rows and settings, in f32 without gradient checkpointing."""

import itertools
import tempfile
import time

from measure import peak_rss_mib
from pairs import Batch, batches, load, read


def dpo(a):
    from datasets import Dataset, disable_caching, disable_progress_bars
    from transformers import AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    disable_caching()
    disable_progress_bars()
    rows = read(a.data, a.limit)

    class Tokenised(DPOTrainer):
        """The pairs are token ids already."""

        def _prepare_dataset(self, dataset, *args, **kwargs):
            return dataset

    class Clock(TrainerCallback):
        step_s = []

        def on_step_begin(self, *args, **kwargs):
            self.start = time.perf_counter()

        def on_step_end(self, *args, **kwargs):
            self.step_s.append(time.perf_counter() - self.start)

    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(
            output_dir=folder,
            max_steps=a.steps,
            per_device_train_batch_size=a.batch,
            learning_rate=a.lr,
            lr_scheduler_type="constant",
            warmup_steps=0,
            weight_decay=0.0,
            max_grad_norm=1.0,
            optim="adamw_torch",
            beta=a.beta,
            max_length=8192,
            precompute_ref_log_probs=True,
            precompute_ref_batch_size=a.batch,
            train_sampling_strategy="sequential",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            dataloader_pin_memory=False,
            disable_tqdm=True,
        )
        trainer = Tokenised(
            model=load(a.model),
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(a.model),
            callbacks=[Clock()],
        )
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    tokens = [Batch.tokens(part) for part in itertools.islice(batches(rows, a.batch), a.steps)]
    return dict(step_s=Clock.step_s, tokens=tokens, losses=losses, peak_rss_mib=peak_rss_mib())
