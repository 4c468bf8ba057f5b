// Thread-block clusters (sm_90 and later): rank, barrier, and one-way messages into another CTA's shared memory.
//
// A message is a store that counts its bytes on a mailbox of the receiver as it lands. Whoever waits at a mailbox sees
// every byte that was announced to it, and no sender waits for anybody. That makes an exchange among all CTAs cost one
// flight through the cluster, where a barrier between writing and reading would cost two.
#pragma once

#include <cstdint>

#include "logits.cuh"

namespace fused_topk {

__device__ __forceinline__ uint32_t cta_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// The two halves of a barrier of all threads of the cluster. Relaxed, they order mailboxes, once opened, and nothing else.
__device__ __forceinline__ void cluster_arrive_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

// Where the CTA of rank `cta` has what this one has at `shared`.
__device__ __forceinline__ uint32_t address_in(uint32_t cta, const void* shared) {
  uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(shared)), "r"(cta));
  return address;
}

// A word of this CTA's, written in the CTA of rank `cta`; ordered by what is released after it.
__device__ __forceinline__ void store_in(uint32_t cta, const uint32_t* to, uint32_t value) {
  asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(address_in(cta, to)), "r"(value) : "memory");
}

// A phase of a mailbox ends when all its announcements are in and all announced bytes have landed.
struct alignas(8) Mailbox {
  uint64_t state;

  // By one thread, before a cluster barrier that all senders pass.
  __device__ __forceinline__ void open(uint32_t announcements) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(this)), "r"(announcements) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  // At this CTA's own mailbox.
  __device__ __forceinline__ void expect(uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.relaxed.cta.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(this)),
                 "r"(bytes)
                 : "memory");
  }
  __device__ __forceinline__ void announce(uint32_t cta, uint32_t bytes) {
    asm volatile(
        "mbarrier.arrive.expect_tx.relaxed.cluster.shared::cluster.b64 _, [%0], %1;" ::"r"(address_in(cta, this)),
        "r"(bytes)
        : "memory");
  }
  // Announces that there is nothing more: the receiver sees all that this thread wrote or has seen.
  __device__ __forceinline__ void release(uint32_t cta) {
    asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(address_in(cta, this))
                 : "memory");
  }
  // `to` and the mailbox are named as this CTA has them; those of `cta` are meant.
  __device__ __forceinline__ void send(uint32_t cta, const uint64_t* to, uint64_t value) {
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b64 [%0], %1, [%2];" ::"r"(address_in(cta, to)),
        "l"(value), "r"(address_in(cta, this))
        : "memory");
  }
  __device__ __forceinline__ void send(uint32_t cta, const uint32_t* to, uint32_t value) {
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(address_in(cta, to)),
        "r"(value), "r"(address_in(cta, this))
        : "memory");
  }
  // Until the phase of this parity has ended; phases are counted from 0.
  __device__ __forceinline__ void wait(uint32_t parity) {
    asm volatile(
        "{\n"
        ".reg .pred ended;\n"
        "again%=:\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 ended, [%0], %1;\n"
        "@!ended bra again%=;\n"
        "}" ::"r"(shared_address(this)),
        "r"(parity)
        : "memory");
  }
};

}  // namespace fused_topk
