// What the device says of itself, or why it cannot be used.
import { probeCuda } from '../../lib/device.js'

console.log(JSON.stringify(probeCuda()))
