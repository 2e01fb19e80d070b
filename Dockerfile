# The reward server. The model is mounted, not built in:
#
#   docker build -t reward-distiller .
#   docker run -p 8000:8000 -e REWARD_TOKEN -v $PWD/runs/mine/model:/model:ro reward-distiller
#
# For a GPU, build with --build-arg TORCH_OPTIONS="--index-url <where torch's CUDA wheels are>" and run with --gpus all.
FROM python:3.11-slim

ARG TORCH_OPTIONS=
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN pip install --no-cache-dir -c constraints.txt $TORCH_OPTIONS torch==2.13.0
COPY src src
RUN pip install --no-cache-dir -c constraints.txt '.[serve]' && useradd --create-home server
USER server
ENV HF_HUB_OFFLINE=1
EXPOSE 8000
HEALTHCHECK --start-period=120s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health')"]
# In exec form, so that the server itself gets the SIGTERM of `docker stop`; give it longer than --stop-seconds to end.
STOPSIGNAL SIGTERM
ENTRYPOINT ["reward-distiller", "serve", "/model", "--host", "0.0.0.0", "--token-env", "REWARD_TOKEN", "--name", "reward"]
