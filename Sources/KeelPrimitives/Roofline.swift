import KeelCL
import KeelCore

/// The two roofs of a device, found by running at them: nothing computes faster than independent fused multiply-adds in
/// registers, and nothing moves data faster than a copy of buffers.
///
/// A probe takes some milliseconds. It is meant to run beside what it is compared with: machines change their speed.
public struct Roofline {
  private let context: ComputeContext
  private let multiplyAdds: CompiledLaunch
  /// With plain stores and with such that bypass the caches.
  private let copies: [[CompiledLaunch]]
  /// How many copies take long enough for the clock.
  private let copyCount: Int

  /// Bytes that a copy reads and writes together: more than caches hold.
  public static let uncachedBytes = 128 << 20
  /// Seconds that a run of copies should take: as long as of what they run beside, since the first pass finds something
  /// else in the caches.
  fileprivate static let runSeconds = 0.01

  /// Builds the probes and runs each once.
  ///
  /// - Parameters:
  ///   - workingSet: bytes that a copy reads and writes together. What the caches hold is copied there, over and over.
  ///   - copiesPerLaunch: copies one after another that are one launch, as the launches of a graph are on a CPU device:
  ///     none of them waits for a core to wake.
  public init(
    _ context: ComputeContext, workingSet: Int = Roofline.uncachedBytes, copiesPerLaunch: Int = 1
  ) throws {
    self.context = context
    let profile = context.profile
    let isCPU = profile.isCPU
    let units = profile.computeUnits

    // Several groups a core, so that a core that was held up leaves some to the others.
    // Long enough that waking a core does not count.
    let (adders, iterations, lanes) = isCPU ? (units * 8, 160_000, 192) : (units * 2048, 4096, 12)
    var spec = ProgramSpec("probe_fma.cl", .float32)
    spec.define("PROBE_CPU", isCPU ? "1" : "0")
    // The fixed point of x · factor + step is 1: values stay near it.
    multiplyAdds = try context.compile(
      context.bind(
        "probe_fma", of: spec,
        [.buffer(try context.buffer(byteCount: adders * 4)), .int(iterations), .real(0.5), .real(0.5)],
        global: [adders], isSingleItem: isCPU, label: "", flops: Double(adders * iterations * lanes) * 2))

    // Whole vectors of 16, some sixteen work-items at least.
    let vectors = max(min(workingSet / 2, profile.maxAllocationBytes / 4) / 64, 1)
    let block = isCPU ? min(max(vectors / 16, 1), 1024) : 1
    let byteCount = vectors / block * block * 64
    let buffers = try (0..<2).map { _ in
      // No zeros: a Zen 5 writes lines of them to memory a third to twice as fast as any others.
      KernelArgument.buffer(try context.noise(byteCount / 4, stream: 0))
    }
    spec.file = "probe_copy.cl"
    copies = try ["0", "1"].map { streams in
      var spec = spec
      spec.define("PROBE_STREAMS", streams)
      let copy = try context.bind(
        "probe_copy", of: spec, buffers + [.int(block)], global: [byteCount / (isCPU ? block * 64 : 16)],
        isSingleItem: isCPU, label: "", bytes: Double(byteCount) * 2)
      return try context.compile([BoundLaunch](repeating: copy, count: copiesPerLaunch), merges: copiesPerLaunch > 1)
    }
    // The first launch of a kernel pays for what the driver compiles then.
    _ = try Self.seconds([multiplyAdds], 1, context)
    for copy in copies { _ = try Self.seconds(copy, 1, context) }
    copyCount = try max(1, Int(Self.runSeconds / Self.seconds(copies[0], 1, context)))
  }

  /// Floating-point operations a second in single precision, in one run.
  public func flopsPerSecond() throws -> Double { multiplyAdds.flops / (try Self.seconds([multiplyAdds], 1, context)) }

  /// Bytes a second that are read and written together, in one run of the faster of the two kinds of stores.
  public func bytesPerSecond() throws -> Double {
    try copies.map { copy in
      copy.reduce(0) { $0 + $1.bytes } / (try Self.seconds(copy, copyCount, context))
    }.max() ?? 0
  }

  /// Seconds of launches, as the mean of `count` times one after another.
  fileprivate static func seconds(_ launches: [CompiledLaunch], _ count: Int, _ context: ComputeContext) throws
    -> Double
  {
    try context.queue.finish()
    let begin = ContinuousClock.now
    for _ in 0..<count {
      for launch in launches { try launch.enqueue(on: context.queue) }
    }
    try context.queue.finish()
    return (ContinuousClock.now - begin) / .seconds(1) / Double(count)
  }
}

/// The roof of what only reads, such as sums: a core may have less under way than a copy's writes can use.
public struct ReadRoofline {
  private let context: ComputeContext
  /// Left to the processor, and with values sent for ahead.
  private let reads: [CompiledLaunch]
  private let count: Int

  /// Builds the probe and runs it.
  ///
  /// - Parameter workingSet: bytes that are read, about: a whole number of stretches, 32 for each core.
  public init(_ context: ComputeContext, workingSet: Int) throws {
    self.context = context
    let profile = context.profile
    let bytes = min(workingSet, profile.maxAllocationBytes / 2)
    // Long stretches: each has a beginning that nothing was fetched ahead of.
    let (items, vectorBytes) = profile.isCPU ? (profile.computeUnits * 32, 64) : (profile.computeUnits * 2048, 16)
    let block = max(bytes / (items * vectorBytes), 1)
    let byteCount = items * block * vectorBytes
    var spec = ProgramSpec("probe_read.cl", .float32)
    spec.define("PROBE_CPU", profile.isCPU ? "1" : "0")
    let buffers = [
      try context.buffer(byteCount: items * 4),
      try context.noise(byteCount / 4, stream: 0),
    ]
    reads = try (profile.isCPU ? ["0", "1"] : ["0"]).map { sends in
      var spec = spec
      spec.define("PROBE_SENDS", sends)
      return try context.compile(
        context.bind(
          "probe_read", of: spec, buffers.map { .buffer($0) } + [.int(block)], global: [items],
          isSingleItem: profile.isCPU, label: "", bytes: Double(byteCount)))
    }
    for read in reads { _ = try Roofline.seconds([read], 1, context) }
    count = try max(1, Int(Roofline.runSeconds / Roofline.seconds([reads[0]], 1, context)))
  }

  /// Bytes a second, in one run of the faster of the two.
  public func bytesPerSecond() throws -> Double {
    try reads.map { try $0.bytes / Roofline.seconds([$0], count, context) }.max() ?? 0
  }
}

extension ComputeContext {
  /// A buffer of noise in [-1, 1), which repeats after so many values that no channel or row is like the next.
  package func noise(_ count: Int, stream: UInt64) throws -> Buffer {
    var generator = Philox(seed: stream)
    let period = (0..<min(count, 65_521)).map { _ in Float(Int32(bitPattern: generator.nextWord())) * 0x1p-31 }
    let buffer = try buffer(byteCount: count * 4)
    try queue.write(buffer, (0..<count).map { period[$0 % period.count] })
    return buffer
  }
}
