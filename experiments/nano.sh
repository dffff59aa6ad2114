# The weights in data/pretrained/nano, from a folder of photographs: sh experiments/nano.sh PHOTOGRAPHS [OUT] [FROM]
# A recogniser learns to see hr's textures in the restorer's image (data/students/recogniser, what ships as
# spasemsr/backends/grounding/recogniser.safetensors); then base denoiser and side modules train jointly, with the
# pipeline's own trainer: three of five patches have the textures measured on hr, the others the guessed ones. From
# random weights, or from FROM's (data/pretrained/nano, say, with STEPS=1900 LR=0.0006). Killed and started again it
# goes on; with a GPU, raise global_batch (64) and steps. The restorer whose image the network is shown ships with the
# package; its weights are made by restorers.py.
set -e
photographs=${1:?a folder of photographs}
out=${2:-data/pretrained/nano}
steps=${STEPS:-4300}
guessing=${STEPS_RECOGNISER:-1500}
dvc exp run -S photographs="$photographs" -S 'learners=[recogniser]' \
  -S 'embedded.data.packages=[]' -S embedded.data.hold_out=hash -S embedded.data.val_fraction=0.04 \
  -S embedded.data.patch=192 -S embedded.data.stride=192 -S embedded.data.max_patches=24 -S embedded.data.variants=3 \
  -S embedded.data.val_max_patches=2 -S embedded.methods.spasemsr.model.schedule.last_share=0.35 \
  -S embedded.train.init="${3:-null}" -S embedded.train.steps=$steps -S embedded.train.lr=${LR:-0.001} \
  -S embedded.train.warmup_steps=$((steps * 3 / 190)) -S embedded.train.cooldown_steps=$((steps * 11 / 19)) \
  -S embedded.train.ema_decay=0.995 -S embedded.train.save_every=250 \
  -S embedded.learners.recogniser.train.steps=$guessing \
  -S embedded.learners.recogniser.train.cooldown_steps=$((guessing * 2 / 3)) \
  -S embedded.evaluate.sample.tile=24 -S embedded.evaluate.sample.tile_overlap=2 train@spasemsr
spasemsr models release models/spasemsr "$out" --bits 8   # with its recogniser in $out/students
mv "$out/students/recogniser/weights.safetensors" spasemsr/backends/grounding/recogniser.safetensors
sed -i 's#"source": "students/recogniser/weights.safetensors"#"source": null#' "$out/config.json"   # which ships
rm -r "$out/students"
cp reports/train/spasemsr/losses.csv "$out/losses.csv"
