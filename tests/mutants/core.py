"""Which files are mutated, and the tests nearest to each, the quick ones first."""

FILES = {
    # masks
    "zoo/dropout/layers.py": ("test_dropout.py", "test_mask_statistics.py", "test_randomness.py", "test_models.py"),
    "zoo/dropout/kernels.py": ("test_kernels.py", "test_mask_statistics.py", "test_dropout.py"),
    "zoo/dropout/counter.py": ("test_counter.py", "test_step_reference.py"),
    "zoo/dropout/seeded.py": ("test_modes.py", "test_seeded.py", "test_montecarlo.py", "test_mask_statistics.py"),
    "zoo/dropout/drop_block.py": ("test_mask_statistics.py", "test_dropout.py"),
    "zoo/dropout/scheduled.py": ("test_schedule.py",),
    "zoo/placement/drop.py": ("test_placement.py", "test_properties.py"),
    "zoo/placement/placement.py": ("test_placement.py", "test_properties.py"),
    "zoo/placement/schedule.py": ("test_schedule.py", "test_properties.py"),
    # training
    "trainers/training/loop.py": ("test_step_reference.py", "test_loop.py", "test_early_stopping.py"),
    "trainers/training/optimizer.py": ("test_step_reference.py", "test_recipe.py"),
    "trainers/training/augmentation.py": ("test_recipe.py", "test_loop.py"),
    "trainers/training/feed.py": ("test_step_reference.py", "test_loop.py", "test_streaming.py"),
    "trainers/training/checkpoint.py": ("test_early_stopping.py", "test_resume.py"),
    "trainers/training/session.py": ("test_early_stopping.py", "test_train.py", "test_resume.py"),
    # comparison
    "trainers/comparison/compare.py": ("test_compare.py", "test_trainers_api.py", "test_networks.py"),
    "trainers/comparison/paired.py": ("test_paired.py",),
    # tuning
    "tuning/space.py": ("test_space.py", "test_properties.py"),
    "tuning/study.py": ("test_study.py", "test_stopping.py", "test_search.py"),
    "tuning/oracles.py": ("test_study.py", "test_search.py"),
    # artefacts
    "zoo/artefacts/contract.py": ("test_artefact_files.py", "test_artefacts.py"),
    "zoo/artefacts/sums.py": ("test_artefact_files.py", "test_trust.py"),
    "zoo/artefacts/runtimes/keras.py": ("test_trust.py", "test_artefacts.py"),
}


def examples(file: str, source: str) -> tuple[str, ...]:
    """Returns the test of the examples in the docstrings of a file, if it has some."""
    module = file.removesuffix(".py").replace("/", ".")
    return (f"test_api.py::test_examples_in_docstrings_give_what_they_say[{module}]",) if ">>>" in source else ()
