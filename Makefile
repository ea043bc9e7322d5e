# A thin layer over Meson and the scripts: every target says in one line what to run.
BUILD ?= build
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
WERROR ?= false
NINJA = ninja -j$(JOBS)
MESON_FLAGS = --prefix=$(PREFIX) -Dwerror=$(WERROR)
SANITIZE = -Dbuildtype=debug -Db_sanitize=address,undefined -Db_lundef=false

.PHONY: all build test e2e demo bench soak fuzz lint fmt install images clean help

all: build

help:
	@echo "make build    the program in $(BUILD)/cocoon"
	@echo "make test     unit and end-to-end tests, also under ASan and UBSan"
	@echo "make demo     a registry, an image, a VM: the whole path on this machine"
	@echo "make bench    one line a figure, as a ratio to the bare operation"
	@echo "make soak     random verbs and kills for SOAK_SECONDS (1800), then a consistent host"
	@echo "make fuzz     every parser of foreign bytes, a short run each"
	@echo "make lint     format, static analysis, include layers"
	@echo "make fmt      format the C sources"
	@echo "make images   bootable OCI archives and cloud images in out/"
	@echo "make install  under PREFIX ($(PREFIX)), DESTDIR honoured"

$(BUILD)/build.ninja:
	@tools/bootstrap build
	meson setup $(MESON_FLAGS) -Dbuildtype=debugoptimized $(BUILD) >/dev/null

$(BUILD)/asan/build.ninja:
	@tools/bootstrap build
	meson setup $(MESON_FLAGS) $(SANITIZE) $(BUILD)/asan >/dev/null

$(BUILD)/clang/build.ninja:
	@tools/bootstrap build clang
	CC=clang meson setup $(MESON_FLAGS) $(SANITIZE) -Dfuzz=true $(BUILD)/clang >/dev/null

build: $(BUILD)/build.ninja
	@$(NINJA) --quiet -C $(BUILD)

test:
	@tools/bootstrap build run images demo test
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja $(BUILD)/asan/build.ninja
	@tests/run --build $(BUILD) --jobs $(JOBS)

e2e:
	@tools/bootstrap build run images demo test
	@$(MAKE) --no-print-directory build
	@tests/run --build $(BUILD) --jobs $(JOBS) --only e2e

demo:
	@tools/bootstrap build run images demo
	@$(MAKE) --no-print-directory build
	@tools/demo $(BUILD)/cocoon

bench:
	@tools/bootstrap build run images demo bench
	@$(MAKE) --no-print-directory build
	@bench/run --build $(BUILD)

soak:
	@tools/bootstrap build run images demo test
	@$(MAKE) --no-print-directory build
	@tests/e2e/prepare $(BUILD)/test-cache
	@COCOON=$(BUILD)/cocoon COCOON_TEST_CACHE=$(BUILD)/test-cache tests/soak $(or $(SOAK_SECONDS),1800)

fuzz: $(BUILD)/clang/build.ninja
	@$(NINJA) --quiet -C $(BUILD)/clang
	@tests/fuzz/run $(BUILD)/clang

lint: $(BUILD)/build.ninja
	@tools/bootstrap lint test
	@tools/lint $(BUILD)

fmt:
	@tools/bootstrap lint
	@git ls-files '*.c' '*.h' | xargs clang-format -i

install: build
	@meson configure -Dprefix=$(PREFIX) $(BUILD)
	@$(NINJA) --quiet -C $(BUILD)
	@meson install --no-rebuild -C $(BUILD)

images:
	@tools/bootstrap images debian-image
	os-image/build-all out

clean:
	rm -rf $(BUILD) out
