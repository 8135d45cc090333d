"""Projects with Dockerfiles in the manner of real ones, that need no network and no registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PROJECTS", "Project"]

Files = Mapping[str, str | None]
"""Contents by name: None is an empty directory, ``-> x`` a link, ``#!`` what can be executed."""


@dataclass(frozen=True, kw_only=True)
class Project:
    """A context, how it is built, and the directories in which the results are compared."""

    name: str
    files: Files
    where: str
    dockerfile: str = "Dockerfile"
    target: str | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    engine: tuple[int, int] = (20, 10)
    """The first Docker Engine that can build it."""
    classic: bool = True
    """Whether the classic builder can build it, too."""

    def write(self, folder: Path) -> None:
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir()
            elif content.startswith("-> "):
                path.symlink_to(content.removeprefix("-> "))
            else:
                path.write_text(content)
                path.chmod(0o755 if content.startswith("#!") else 0o640)


NODE = Project(
    name="node",
    where="/app /usr/share/site",
    classic=False,
    secrets={"npmrc": "//registry.example/:_authToken=npm-token-of-nobody"},
    files={
        "Dockerfile": """\
FROM --platform=$BUILDPLATFORM paddock:debian AS deps
WORKDIR /app
COPY package.json package-lock.json* ./
RUN --mount=type=cache,target=/root/.npm \\
    --mount=type=secret,id=npmrc,target=/root/.npmrc,mode=0400 \\
    test -s /root/.npmrc && mkdir -p node_modules/left && cp package.json node_modules/left/

FROM deps AS build
COPY . .
RUN mkdir dist && cat src/*.ts > dist/bundle.js

FROM paddock:debian AS runner
ENV NODE_ENV=production PORT=3000
WORKDIR /app
COPY --from=build --chown=33:33 --chmod=555 /app/dist ./dist
COPY --from=deps /app/node_modules ./node_modules
COPY public /usr/share/site
USER www-data
EXPOSE 3000/tcp
CMD ["node", "dist/bundle.js"]
""",
        ".dockerignore": "node_modules\n.git\n*.log\n!keep.log\n**/.DS_Store\nDockerfile*\n",
        "package.json": "{}\n",
        "src/index.ts": "1;\n",
        "src/util.ts": "2;\n",
        "src/.DS_Store": "x",
        "public/index.html": "<p>\n",
        "node_modules/left/index.js": "no\n",
        "debug.log": "no\n",
        "keep.log": "yes\n",
    },
)
PYTHON = Project(
    name="python",
    where="/srv /opt/venv /wheels",
    classic=False,
    build_args={"VERSION": "1.2.3"},
    files={
        "docker/app.Dockerfile": """\
# A service, whose Dockerfile is not at the top and has its own ignore file.
ARG BASE=paddock:debian
ARG VERSION=0.0.0
FROM ${BASE} AS builder
ARG VERSION
ENV VIRTUAL_ENV=/opt/venv
ENV PATH="$VIRTUAL_ENV/bin:$PATH"
RUN python3 -m venv --without-pip "$VIRTUAL_ENV" && rm -rf "$VIRTUAL_ENV"/lib/*/site-packages
WORKDIR /wheels
RUN --mount=type=bind,source=requirements.txt,target=/tmp/requirements.txt \\
    --mount=type=cache,target=/root/.cache/pip,sharing=locked \\
    sort /tmp/requirements.txt > lock && echo "$VERSION" > version
FROM ${BASE}
RUN groupadd --gid 1000 app && useradd --uid 1000 --gid app --create-home app
COPY --from=builder --chown=app:app /opt/venv /opt/venv
COPY --from=builder /wheels /wheels
WORKDIR /srv
COPY --chown=1000:1000 app app/
COPY --chmod=0755 docker/entrypoint.sh /srv/
USER app
HEALTHCHECK --interval=30s CMD python3 -c "print()"
ENTRYPOINT ["/srv/entrypoint.sh"]
CMD ["serve"]
""",
        "docker/app.Dockerfile.dockerignore": (
            "*\n!app\n!requirements.txt\n!docker/*.sh\n**/*.pyc\n"
        ),
        ".dockerignore": "app\n",
        "docker/entrypoint.sh": '#!/bin/sh\nexec "$@"\n',
        "requirements.txt": "b\na\n",
        "app/__init__.py": "",
        "app/main.py": "x = 1\n",
        "app/main.pyc": "no",
        "app/data": None,
        "secret.env": "no",
    },
    dockerfile="docker/app.Dockerfile",
)
GO = Project(
    name="go",
    where="/ /src",
    files={
        "Dockerfile": """\
FROM paddock:debian AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN cat go.mod go.sum > /modules
COPY . .
RUN mkdir -p /out && printf '#!/bin/sh\\n' > /out/server && chmod 755 /out/server
FROM scratch
COPY --from=build /out/server /bin/
COPY --from=build /src/cmd /src/cmd
COPY --from=build /modules /etc/modules
USER 65532:65532
ENTRYPOINT ["/bin/server"]
""",
        ".dockerignore": "*\n!go.mod\n!go.sum\n!cmd\ncmd/**/*_test.go\n",
        "go.mod": "module example.org/x\n",
        "go.sum": "\n",
        "cmd/server/main.go": "package main\n",
        "cmd/server/main_test.go": "package main\n",
        "vendor/x.go": "package x\n",
    },
)
RUST = Project(
    name="rust",
    where="/usr/local/bin /build",
    target="debug",
    build_args={"PROFILE": "dev"},
    files={
        "Dockerfile": """\
FROM paddock:debian AS chef
ARG PROFILE=release
WORKDIR /build
FROM chef AS planner
COPY Cargo.toml Cargo.lock ./
COPY src src
RUN ls -R > recipe.json
FROM chef AS builder
ARG PROFILE
COPY --from=planner /build/recipe.json .
COPY --from=planner /build/src ./src
RUN mkdir -p target/$PROFILE && cp src/main.rs target/$PROFILE/app
FROM builder AS debug
COPY --from=builder /build/target /usr/local/bin/
LABEL profile=$PROFILE
FROM paddock:debian
COPY --from=builder /build/target/release/app /usr/local/bin/
""",
        ".dockerignore": "target/\n.git/\n",
        "Cargo.toml": "[package]\n",
        "Cargo.lock": "",
        "src/main.rs": "fn main() {}\n",
        "src/bin": "-> main.rs",
        "target/debug/x": "no",
    },
)
JAVA = Project(
    name="java",
    where="/app",
    files={
        "Dockerfile": """\
# escape=`
FROM paddock:debian AS layers
WORKDIR /layers
COPY target/*.jar app.jar
RUN mkdir dependencies application && `
    # the order matters
    cp app.jar application/ && `
    touch dependencies/a.jar
FROM paddock:debian
ARG UID=10001
RUN useradd --uid "${UID}" --no-create-home --shell /usr/sbin/nologin appuser
WORKDIR /app
COPY --from=layers --chown=appuser layers/dependencies/ ./
COPY --from=layers --chown=appuser layers/application/ ./
ADD --chown=10001:0 config.tar ./config/
VOLUME /tmp/data
USER appuser
STOPSIGNAL SIGINT
ENTRYPOINT exec java $JAVA_OPTS -jar app.jar
""",
        ".dockerignore": "**/*.class\n**/target\n!target/*.jar\n",
        "target/app-1.0.jar": "jar\n",
        "src/Main.class": "no",
        "config.tar": "not an archive\n",
    },
)
CONDA = Project(
    name="conda",
    where="/opt/conda /home/jovyan",
    build_args={"NB_UID": "1234"},
    files={
        "Dockerfile": """\
ARG REGISTRY=
ARG OWNER=paddock
FROM ${REGISTRY:-}${OWNER}:debian
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG NB_USER="jovyan"
ARG NB_UID="1000"
ENV CONDA_DIR=/opt/conda NB_UID=${NB_UID} HOME="/home/${NB_USER}"
ENV PATH="${CONDA_DIR}/bin:${PATH}"
RUN useradd --no-log-init --create-home --uid "${NB_UID}" "${NB_USER}" && \\
    mkdir -p "${CONDA_DIR}" && chown "${NB_UID}" "${CONDA_DIR}"
COPY --chown=${NB_UID} environment*.yml fix-permissions /opt/conda/
USER ${NB_UID}
WORKDIR "${HOME}"
RUN set -u && [[ "${BASH_VERSION}" ]] && mapfile -t names < /opt/conda/environment.yml && \\
    printf '%s\\n' "${names[@]}" | tee installed
ONBUILD COPY requirements.txt .
ONBUILD RUN wc -l < requirements.txt > wanted
CMD ["start-notebook.sh"]
""",
        "environment.yml": "python\nnumpy\n",
        "environment-dev.yml": "pytest\n",
        "fix-permissions": "#!/bin/bash\n",
        "README.md": "no\n",
    },
)
MODERN = Project(
    name="modern",
    where="/app",
    engine=(23, 0),
    classic=False,
    files={
        "Dockerfile": """\
FROM scratch AS scripts
COPY <<"EOF" /install.sh
#!/bin/sh
set -eu
echo "$1" > /app/installed
EOF
FROM paddock:debian
WORKDIR /app
COPY --link --chmod=755 --from=scripts install.sh ./
COPY <<one <<two ./
1
one
2
two
RUN <<EOF
./install.sh now
printf '%s\\n' "a  b" >> installed
EOF
""",
        "ignored": "x",
    },
)
PROJECTS = (MODERN, NODE, PYTHON, GO, RUST, JAVA, CONDA)
