// What the top-k kernel needs of a cluster of thread blocks: who is where, barriers, each other's shared memory.
#pragma once

#ifdef __CUDACC__
#include <cooperative_groups.h>
#include <cuda_runtime.h>

namespace {

constexpr int THREADS = 512;  // of a block

__device__ inline int thread_index() { return threadIdx.x; }
__device__ inline void sync_block() { __syncthreads(); }

// Until the kernels before this one in the stream have ended: a block may start while their last ones still run.
__device__ inline void wait_for_kernels_before() { cudaGridDependencySynchronize(); }

struct Cluster {
    cooperative_groups::cluster_group group = cooperative_groups::this_cluster();

    __device__ int blocks() const { return group.num_blocks(); }
    __device__ int rank() const { return group.block_rank(); }
    __device__ int index() const { return blockIdx.x / group.num_blocks(); }
    __device__ void arrive() const { group.barrier_arrive(); }
    __device__ void wait() const { group.barrier_wait(); }
    __device__ void sync() const { group.sync(); }

    // The place in the shared memory of block `rank` that corresponds to `own` in this block's.
    template <class T>
    __device__ T* of(T* own, int rank) const {
        return group.map_shared_rank(own, rank);
    }
};

// The block's own T in shared memory.
template <class T>
__device__ T& block_shared() {
    __shared__ T shared;
    return shared;
}

}  // namespace
#else  // tests
#include "cluster_on_cpu.h"
#endif
