# The sweep of lambda, eq. 9, queued on the embedded profile. Start them: dvc queue start
# With photographs of your own in data/raw: spasemsr experiment lambda --queue, which takes them along.
set -e
dvc exp run --queue -n embedded-lambda-0 -S lambda=0.0 evaluate
dvc exp run --queue -n embedded-lambda-0.25 -S lambda=0.25 evaluate
dvc exp run --queue -n embedded-lambda-0.5 -S lambda=0.5 evaluate
dvc exp run --queue -n embedded-lambda-0.75 -S lambda=0.75 evaluate
dvc exp run --queue -n embedded-lambda-1 -S lambda=1.0 evaluate
