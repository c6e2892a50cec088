// Tile instructions on processors that lack them: each traps (SIGILL), and what it says is done in C++ on the registers of the
// thread that met it. So the very machine code that ships is what runs.
#pragma once

namespace cambium_test {

void emulate_tiles();  // from here on, in every thread of the process

}  // namespace cambium_test
