import KeelCL
import KeelCore

/// A kernel and its arguments, to be compiled by itself or merged with its neighbours.
public struct BoundLaunch {
  /// The kernel and what it works on: `gemm_direct_cpu 32×32×784`.
  public let label: String
  /// The kernel's name in its program.
  public let kernel: String
  /// The program.
  public let spec: ProgramSpec
  /// In the order of the kernel's signature.
  public let arguments: [KernelArgument]
  /// Work-items on each axis.
  public let global: [Int]
  /// Work-items in a group on each axis; nil leaves it to the driver.
  public let local: [Int]?
  /// Floating-point operations, and bytes that must move, at least; for the profile.
  public let flops: Double
  /// See `flops`.
  public let bytes: Double

  /// Path of the layer that the launch works for.
  public var path = ""
  /// What it touches, at most; nil where that is unknown.
  public var footprint: Footprint?

  /// The buffers that a launch reads and writes.
  public struct Footprint {
    /// Buffers that it reads and leaves as they are.
    public var reads: [Buffer]
    /// Buffers that it writes, read or not.
    public var writes: [Buffer]

    /// A buffer that is changed in place is among the writes.
    public init(reads: [Buffer], writes: [Buffer]) {
      self.reads = reads
      self.writes = writes
    }
  }
}

/// A kernel with its arguments set, ready to be enqueued any number of times.
public struct CompiledLaunch {
  /// As ``BoundLaunch/label``, or how many launches are in it.
  public let label: String
  /// What was merged into it, a line each for a person; empty where it is one launch.
  public let parts: [String]
  /// Owned by this launch alone.
  public let kernel: Kernel
  /// Work-items on each axis.
  public let global: [Int]
  /// Work-items in a group on each axis; nil leaves it to the driver.
  public let local: [Int]?
  /// Floating-point operations, and bytes that must move, at least; for the profile.
  public let flops: Double
  /// See `flops`.
  public let bytes: Double
  /// Path of the layer that the launch works for.
  public let path: String
  /// What a merged launch is told anew each time; nil where it is one.
  let turns: MergedTurns?

  /// Gives the launch to `queue`, `runs` times, which are one for the driver where it is merged; does not wait.
  ///
  /// - Returns: the last one's event if `event` is true, else nil.
  /// - Throws: what the driver refuses.
  @discardableResult
  public func enqueue(on queue: Queue, runs: Int = 1, event: Bool = false) throws(CLError) -> Event? {
    guard let turns else {
      for _ in 1..<max(runs, 1) { _ = try queue.enqueue(kernel, global: global, local: local) }
      return try queue.enqueue(kernel, global: global, local: local, event: event)
    }
    try turns.set(runs: runs, in: kernel)
    let event = try queue.enqueue(kernel, global: global, local: local, event: event)
    turns.advance()
    return event
  }
}

/// An argument of a kernel, in the order of its signature.
public enum KernelArgument {
  case buffer(Buffer)
  case int(Int)
  case long(Int)
  /// A scalar of the program's `REAL`.
  case real(Double)
}

/// A problem that no kernel of the family takes, or that is too large for one.
public struct PrimitiveError: Error, Equatable, CustomStringConvertible {
  /// `[family] what was expected`.
  public let description: String

  init(_ family: String, _ message: String) { description = "[\(family)] \(message)" }
}

extension ComputeContext {
  /// The launch of a kernel with these arguments.
  ///
  /// - Parameters:
  ///   - spec: the program; its element type decides how `.real` arguments are passed.
  ///   - isSingleItem: the kernel is written for one work-item a work-group.
  ///   - local: work-items in a group on each axis, where the kernel counts on them.
  /// - Throws: a size that a kernel's `int` cannot hold.
  func bind(
    _ name: String, of spec: ProgramSpec, _ arguments: [KernelArgument], global: [Int],
    isSingleItem: Bool = false, local: [Int]? = nil, label: String, flops: Double = 0, bytes: Double = 0
  ) throws -> BoundLaunch {
    for argument in arguments {
      if case .int(let value) = argument, Int32(exactly: value) == nil {
        throw PrimitiveError(name, "expects sizes below 2³¹, got \(value)")
      }
    }
    return BoundLaunch(
      label: "\(name) \(label)", kernel: name, spec: spec, arguments: arguments, global: global,
      local: isSingleItem ? global.map { _ in 1 } : local, flops: flops, bytes: bytes)
  }

  /// Builds the launch's kernel and sets its arguments. Throws the compiler's log when the text is wrong.
  public func compile(_ launch: BoundLaunch) throws -> CompiledLaunch {
    let kernel = try programs.kernel(of: launch)
    for (index, argument) in launch.arguments.enumerated() {
      switch argument {
      case .buffer(let buffer): try kernel.setArgument(index, buffer)
      case .long(let value): try kernel.setArgument(index, Int64(value))
      case .int(let value): try kernel.setArgument(index, Int32(clamping: value))
      case .real(let value):
        if launch.spec.dtype == .float64 {
          try kernel.setArgument(index, value)
        } else {
          try kernel.setArgument(index, Float(value))
        }
      }
    }
    return CompiledLaunch(
      label: launch.label, parts: [], kernel: kernel, global: launch.global, local: launch.local, flops: launch.flops,
      bytes: launch.bytes, path: launch.path, turns: nil)
  }
}
