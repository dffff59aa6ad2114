# Tables 3 and 4: the full model and the paper's three ablations, queued on the embedded profile. Start them: dvc queue start
# With photographs of your own in data/raw: spasemsr experiment tables --queue, which takes them along.
set -e
dvc exp run --queue -n embedded-spasemsr-ours -S embedded.methods.spasemsr.model.constraint.img=true -S embedded.methods.spasemsr.model.constraint.sem=true -S embedded.methods.spasemsr.model.spatial.boxes=true evaluate
dvc exp run --queue -n embedded-spasemsr-ours-w-o-semantic -S embedded.methods.spasemsr.model.constraint.img=true -S embedded.methods.spasemsr.model.constraint.sem=false -S embedded.methods.spasemsr.model.spatial.boxes=true evaluate
dvc exp run --queue -n embedded-spasemsr-ours-w-o-vae -S embedded.methods.spasemsr.model.constraint.img=false -S embedded.methods.spasemsr.model.constraint.sem=true -S embedded.methods.spasemsr.model.spatial.boxes=true evaluate
dvc exp run --queue -n embedded-spasemsr-ours-w-o-spatial -S embedded.methods.spasemsr.model.constraint.img=true -S embedded.methods.spasemsr.model.constraint.sem=true -S embedded.methods.spasemsr.model.spatial.boxes=false evaluate
