#!/bin/sh
# Builds for 64-bit Arm and runs pytest in user emulation, on Debian or Ubuntu.
# Once: apt install g++-aarch64-linux-gnu qemu-user cmake ninja-build && dpkg --add-architecture arm64 && apt update
# usage: tools/cross_aarch64.sh [pytest arguments], in the environment of CONTRIBUTING.md
set -eu
cd "$(dirname "$0")/.."
work=$PWD/build/aarch64
root=$work/root
site=$work/site
version=$(apt-cache depends python3:arm64 | sed -n 's/.*Depends: python\(3\.[0-9]*\):arm64$/\1/p')

if [ ! -x "$work/python" ]; then # a Python of that architecture, unpacked beside the system
  mkdir -p "$work/debs"
  (cd "$work/debs" && apt-get download $(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
    --no-breaks --no-replaces --no-enhances "python$version:arm64" "libpython$version-dev:arm64" \
    libgomp1:arm64 libstdc++6:arm64 | grep '^[a-z].*:arm64$' | sort -u))
  for package in "$work"/debs/*.deb; do dpkg -x "$package" "$root"; done
  pip install --quiet --target "$site" --python-version "$version" --only-binary=:all: \
    --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 \
    numpy safetensors Pillow rich typer pytest hypothesis
fi

# Debian's pyconfig.h looks for its architecture's version from usr/include.
cmake -S . -B "$work/cmake" -G Ninja -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_CXX_FLAGS="-isystem $root/usr/include" \
  -DPython_EXECUTABLE=/usr/bin/python3 -DPython_INCLUDE_DIR="$root/usr/include/python$version" -DPYTHON_IS_DEBUG=OFF \
  -DPYTHON_MODULE_EXTENSION=".cpython-$(echo "$version" | tr -d .)-aarch64-linux-gnu.so" \
  -Dpybind11_DIR="$(python -m pybind11 --cmakedir)" -DSKBUILD_PROJECT_VERSION=0
cmake --build "$work/cmake"
mkdir -p "$site/fastcnn" && cp -R python/fastcnn/. "$site/fastcnn" && cp -R bench "$site/fastcnn"
cmake --install "$work/cmake" --prefix "$site" --component python

# Tests that start Python again find this script as sys.executable, so they need no binfmt.
cat > "$work/python" <<EOF
#!/bin/sh
PYTHONPATH=$site\${PYTHONPATH:+:\$PYTHONPATH} PYTHONHOME=$root/usr exec \
  qemu-aarch64 -0 "$work/python" -L "$root" "$root/usr/bin/python$version" "\$@"
EOF
chmod +x "$work/python"
"$work/python" -m pytest "$@"
