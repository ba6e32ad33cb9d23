import KeelCL
import KeelPrimitives
import Testing

@Suite struct RooflineTests {
  @Test(arguments: try Device.all()) func probesRun(_ device: Device) throws {
    for workingSet in [Roofline.uncachedBytes, 1 << 20, 100] {
      let context = try ComputeContext(device)
      let roofline = try Roofline(context, workingSet: workingSet)
      let reads = try ReadRoofline(context, workingSet: workingSet)
      for rate in [try roofline.flopsPerSecond(), try roofline.bytesPerSecond(), try reads.bytesPerSecond()] {
        // Between a pocket calculator and all machines of the world: the unit is right, and nothing was optimized away.
        #expect(rate > 1e6 && rate < 1e18, "\(device.name): \(rate)")
      }
    }
  }
}
