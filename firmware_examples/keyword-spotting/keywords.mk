# SPDX-License-Identifier: Apache-2.0
#
# Adds a program that listens to the Makefile of a folder that `edgekit firmware` made:
#   make -C FOLDER -f Makefile -f ../keywords.mk hear

HERE := $(dir $(lastword $(MAKEFILE_LIST)))
PYTHON = python
LISTENER = build/keywords/keywords.o build/keywords/log_mel.o

keywords.elf: $(OBJECTS) $(LISTENER) board.ld
	$(LINK) $(OBJECTS) $(LISTENER) -o $@

# Not $(LTO): main would take in the frame of the features, and hold it while the network runs.
build/keywords/%.o: $(HERE)%.c build/words.h
	@mkdir -p $(@D)
	$(CC) $(FLAGS) $(CFLAGS) -I$(HERE) -Ibuild $(FAST) -MMD -c $< -o $@

build/words.h: $(HERE)words.py $(HERE)log_mel.py
	@mkdir -p $(@D)
	$(PYTHON) $< $@

hear: keywords.elf
	$(EMULATOR) keywords.elf

.PHONY: hear

-include $(LISTENER:.o=.d)
