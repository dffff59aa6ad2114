# The weights in data/pretrained/nano, from a folder of photographs: sh experiments/nano.sh PHOTOGRAPHS [OUT]
# Three runs of the pipeline's own trainer, base denoiser and side modules jointly: small patches at a high rate, larger
# ones from there, cooling down, both without textures and harshly degraded; then, by nano_textures.sh, areas of like
# texture and the mixture of degradations. Killed and started again it goes on; with a GPU, raise global_batch (64) and
# steps. The third alone, from the weights that ship: sh experiments/nano_textures.sh PHOTOGRAPHS [OUT]
# The restorer whose image all are shown ships with the package; its weights are made by restorers.py.
set -e
photographs=${1:?a folder of photographs}
out=${2:-data/pretrained/nano}
middle=data/pretrained/middle
data="-S embedded.ground.textures=null
  -S degradation.preset=seesr -S photographs=$photographs -S embedded.data.packages=[] -S embedded.data.val_fraction=0.04"
train="-S embedded.train.ema_decay=0.998 -S embedded.train.save_every=250"
dvc exp run $data $train \
  -S embedded.data.patch=128 -S embedded.data.stride=128 -S embedded.data.max_patches=48 -S embedded.data.variants=2 \
  -S embedded.train.init=null -S embedded.train.steps=${STEPS_128PX:-884} -S embedded.train.global_batch=8 \
  -S embedded.train.lr=0.0015 -S embedded.train.warmup_steps=100 train@spasemsr
spasemsr models release models/spasemsr $middle
dvc exp run $data $train \
  -S embedded.data.patch=192 -S embedded.data.stride=192 -S embedded.data.max_patches=30 -S embedded.data.variants=3 \
  -S embedded.train.init=$middle -S embedded.train.steps=${STEPS_192PX:-1500} -S embedded.train.global_batch=4 \
  -S embedded.train.lr=0.001 -S embedded.train.warmup_steps=50 -S embedded.train.cooldown_steps=900 train@spasemsr
spasemsr models release models/spasemsr $out
rm -r $middle
sh experiments/nano_textures.sh "$photographs" "$out" "$out"
