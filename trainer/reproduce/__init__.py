"""``lpref reproduce``: a paper's claim as an experiment with arms, a statistic and an expected sign, run here and judged.

    experiment.py   what an experiment is, and the YAML files that come with the package
    figures.py      the figure of one arm and seed: of a training run, or of a measurement
    measures/       the measurements, one concept a page
    verdict.py      agrees, differs or inconclusive: paired confidence intervals over the seeds
    ledger.py       figures as they are found
    runs.py         the runs of all experiments in one pool
    results.py      running, printing, keeping
"""
