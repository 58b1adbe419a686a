"""Training: from prepared batches and the model of the stage before to a model or an adapter.

From the outside in: `train` is the step, which halves the micro batch when the memory runs out; `launching/launch`
starts the processes of a stage that has several, and `launching/rank` is what runs in each of them; `stage` is what one
rank does, from its set-up to its outcome; `loop` is the training itself, step after step; `deepspeed_engine` is
under it. What is decided once for all attempts is in `auto_settings`; one goes on from another by `checkpoints/`.
"""
