import KeelCL
import KeelCore

/// The two roofs of a device, found by running at them: nothing computes faster than independent fused multiply-adds in
/// registers, and nothing moves data faster than a copy of buffers that no cache holds.
///
/// A probe takes some milliseconds. It is meant to run beside what it is compared with: machines change their speed.
public struct Roofline {
  private let context: ComputeContext
  private let multiplyAdds: CompiledLaunch
  private let copies: CompiledLaunch

  /// Bytes of each of the two buffers of a copy: more than caches hold.
  static let copyBytes = 64 << 20

  /// Builds the probes and runs each once.
  public init(_ context: ComputeContext) throws {
    self.context = context
    let isCPU = context.profile.isCPU
    let units = context.profile.computeUnits

    // Several groups a core, so that a core that was held up leaves some to the others.
    let (items, iterations, lanes) = isCPU ? (units * 8, 40_000, 192) : (units * 2048, 4096, 12)
    var spec = ProgramSpec("probe_fma.cl", .float32)
    spec.define("PROBE_CPU", isCPU ? "1" : "0")
    // The fixed point of x · factor + step is 1: values stay near it.
    multiplyAdds = try context.compile(
      context.bind(
        "probe_fma", of: spec,
        [.buffer(try context.buffer(byteCount: items * 4)), .int(iterations), .real(0.5), .real(0.5)],
        global: [items], isSingleItem: isCPU, label: "", flops: Double(items * iterations * lanes) * 2))

    let byteCount = min(Self.copyBytes, context.profile.maxAllocationBytes / 4) & ~(1 << 16 - 1)
    let block = isCPU ? 1024 : 1
    spec.file = "probe_copy.cl"
    copies = try context.compile(
      context.bind(
        "probe_copy", of: spec,
        [
          .buffer(try context.buffer(byteCount: byteCount)), .buffer(try context.buffer(byteCount: byteCount)),
          .int(block),
        ], global: [byteCount / (isCPU ? block * 64 : 16)], isSingleItem: isCPU, label: "",
        bytes: Double(byteCount) * 2))
    // The first launch of a kernel pays for what the driver compiles then.
    _ = try (flopsPerSecond(), bytesPerSecond())
  }

  /// Floating-point operations a second in single precision, in one run.
  public func flopsPerSecond() throws -> Double { multiplyAdds.flops / (try seconds(multiplyAdds)) }

  /// Bytes a second that are read and written together, in one run.
  public func bytesPerSecond() throws -> Double { copies.bytes / (try seconds(copies)) }

  private func seconds(_ launch: CompiledLaunch) throws -> Double {
    try context.queue.finish()
    let begin = ContinuousClock.now
    try launch.enqueue(on: context.queue)
    try context.queue.finish()
    return (ContinuousClock.now - begin) / .seconds(1)
  }
}
