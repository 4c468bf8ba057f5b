// A copy whose target does not stay in the caches of the core that writes it.
#pragma once

#include <cstddef>

namespace fused_topk {

// As memcpy. A device fetches memory more slowly while it lies, just written, in the second-level cache of a core; what
// this writes lies in main memory. Where the processor has no such stores of a whole cache line, it is memcpy.
void write_past_caches(char* to, const char* from, size_t bytes);

}  // namespace fused_topk
