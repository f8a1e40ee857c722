"""Mainspring: models that stay right after launch.

The map. Data flows down this list; imports point only up it.

    contracts    the columns of a model as an Arrow schema; the frozen records that stages exchange
    sections     every dial: the frozen sections of a configuration
    config       one model's configuration, checked when loaded
    telemetry    the only list of metric names; structured logs
    priority     background work gives way to whoever answers requests
    session      join the cluster that RAY_ADDRESS names, or start one
    security     secrets and keyed pseudonyms
    ledger       one SQL database: journal, clock, epochs, evidence, progress
    data         sources, validation, Delta tables, late labels, snapshots, profiles, the encoder
    model        networks, calibration, evaluation, the bundle: what a prediction is
    registry     versions, roles by compare-and-set, content-addressed artifacts
    training     Ray Train around a plain loop; experiments in MLflow
    serving      resident versions behind HTTP, the spool of predictions, batch scoring
    monitoring   logs folded into evidence; diagnosis
    loop         policy, gate, watch, execution, and the steward that ticks them
    governance   what an auditor asks for
    console      what people look at: status and the scoreboard

Jobs (`jobs/`) are one verb each and start things; importing anything here starts nothing.
"""
