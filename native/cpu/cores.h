// How many threads this process should compute with.
#pragma once

namespace cambium {

// Physical cores that the affinity mask allows, no more than the cgroup's CPU quota rounded up; at least 1.
int usable_cores();

}  // namespace cambium
