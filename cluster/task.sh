# One process of a training under SLURM (cluster/train.sbatch): tells torch in its words what srun says.
#
# No torchrun stands between: it numbers machines by their names, so that the process that writes may be on another
# machine than `dvc repro`, and it kills its processes 30 s after SIGTERM, in which a state of 12 GB is not written.
export RANK="$SLURM_PROCID" LOCAL_RANK="$SLURM_LOCALID" WORLD_SIZE="$SLURM_NTASKS"
exec python "$@"
