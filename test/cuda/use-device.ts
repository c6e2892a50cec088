// A setup file of jest (scripts/test-gpu.mjs): the tests that follow run on the device that CAMBIUM_CUDA_LIBRARY has, or else
// on the GPU.
import { useDevice } from '../../lib/device.js'

useDevice('cuda')
