import KeelCL
import KeelCore

/// x seen as [outer, channels, inner]; [N, C] and channels-last layouts have inner = 1.
public struct ChannelExtents: Hashable, Sendable {
  /// Product of the extents before the channels.
  public var outer: Int
  /// Channels.
  public var channels: Int
  /// Product of the extents behind the channels.
  public var inner: Int

  /// The extents of `shape`, whose channels are at `axis`, one of `0..<rank`.
  public init(_ shape: Shape, axis: Int) {
    outer = shape.dimensions[..<axis].reduce(1, *)
    channels = shape[axis]
    inner = shape.dimensions[(axis + 1)...].reduce(1, *)
  }

  var count: Int { outer * channels * inner }
  var slices: Slices { Slices(values: outer * inner) }
  var label: String { "\(outer)×\(channels)" + (inner == 1 ? "" : "×\(inner)") }
  /// Enough rows to share out, few enough to stay in a core's cache.
  var fitsColumns: Bool { inner == 1 && outer <= 4096 }
}

/// Batch norm in training, with the statistics of the batch.
///
/// Operands: outputs y, mean, residual, variance; inputs x, scale, shift.
public struct BatchNormForwardProblem: KernelProblem {
  /// Where the channels are.
  public var extents: ChannelExtents
  /// Added to the variance.
  public var epsilon: Double
  /// Element type of the floating-point operands.
  public var dtype: DType
  /// What becomes of y before it is stored; nil for nothing.
  public var epilogue: Slot?

  /// The problem of these sizes.
  public init(_ extents: ChannelExtents, epsilon: Double, dtype: DType = .float32, epilogue: Slot? = nil) {
    self.extents = extents
    self.epsilon = epsilon
    self.dtype = dtype
    self.epilogue = epilogue
  }

  /// The name of the family.
  public static let family = "batchNormForward"
  /// Sizes, for a person.
  public var label: String { extents.label }

  /// The first that takes device and problem wins.
  public static let variants: [Variant<BatchNormForwardProblem>] = [
    // A work-item owns eight channels: statistics and result in one launch.
    Variant("columns", takes: { $1.isCPU && $0.extents.fitsColumns }) { problem, operands, context in
      let (e, o, i) = (problem.extents, operands.outputs, operands.inputs)
      return [
        try context.bind(
          "batchnorm_forward_columns", of: problem.spec("batchnorm_forward_columns.cl", slot: true),
          (o + i + operands.extras).map { .buffer($0) } + [.real(problem.epsilon), .int(e.outer), .int(e.channels)],
          global: [divideUp(e.channels, 8)], isSingleItem: true, label: e.label, flops: 10 * Double(e.count),
          bytes: problem.bytes(2))
      ]
    },
    Variant("rows", takes: { $1.isCPU && $0.extents.inner >= 8 }, workspaceBytes: \.statisticsBytes) {
      problem, operands, context in
      let e = problem.extents
      return try problem.statistics(operands, context) + [
        try context.bind(
          "batchnorm_normalize_rows", of: problem.spec("batchnorm_normalize.cl", slot: true),
          problem.normalizeArguments(operands) + [.int(e.channels), .int(e.inner)], global: [e.outer * e.channels],
          isSingleItem: true, label: e.label, flops: 4 * Double(e.count), bytes: problem.bytes(2))
      ]
    },
    Variant("tallColumns", takes: { $1.isCPU && $0.extents.inner == 1 }, workspaceBytes: \.statisticsBytes) {
      problem, operands, context in
      let e = problem.extents
      return try problem.statistics(operands, context) + [
        try context.bind(
          "batchnorm_normalize_columns", of: problem.spec("batchnorm_normalize.cl", slot: true),
          problem.normalizeArguments(operands) + [.int(e.outer), .int(e.channels), .int(256)],
          global: [divideUp(e.channels, 8), divideUp(e.outer, 256)], isSingleItem: true, label: e.label,
          flops: 4 * Double(e.count), bytes: problem.bytes(2))
      ]
    },
    Variant("naive", workspaceBytes: \.statisticsBytes) { problem, operands, context in
      let e = problem.extents
      return try problem.statistics(operands, context) + [
        try context.bind(
          "batchnorm_normalize", of: problem.spec("batchnorm_normalize.cl", slot: true),
          problem.normalizeArguments(operands) + [.int(e.channels), .int(e.inner), .long(e.count)], global: [e.count],
          label: e.label, flops: 4 * Double(e.count), bytes: problem.bytes(2))
      ]
    },
  ]

  private var statisticsBytes: Int { 3 * extents.slices.count * extents.channels * dtype.byteCount }
  private func bytes(_ passes: Int) -> Double { Double(passes * extents.count * dtype.byteCount) }

  private func spec(_ file: String, slot: Bool) -> ProgramSpec {
    var spec = ProgramSpec(file, dtype)
    if slot { epilogue?.fill("EPILOGUE", in: &spec) }
    return spec
  }

  /// Sums of slices, then their merge in index order.
  private func statistics(_ operands: Operands, _ context: ComputeContext) throws -> [BoundLaunch] {
    guard let workspace = operands.workspace else { throw PrimitiveError(Self.family, "expects a workspace") }
    let (e, slices, x) = (extents, extents.slices, operands.inputs[0])
    let spec = spec("batchnorm_statistics.cl", slot: false)
    let sizes: [KernelArgument] = [
      .int(e.outer), .int(e.channels), .int(e.inner), .int(slices.count), .long(slices.length),
    ]
    return [
      try context.bind(
        "batchnorm_statistics_partial", of: spec, [.buffer(workspace), .buffer(x)] + sizes,
        global: [e.channels, slices.count], label: e.label, flops: 4 * Double(e.count), bytes: bytes(1)),
      try context.bind(
        "batchnorm_statistics_merge", of: spec,
        operands.outputs[1...3].map { .buffer($0) } + [.buffer(x), .buffer(workspace)] + sizes, global: [e.channels],
        label: e.label),
    ]
  }

  private func normalizeArguments(_ operands: Operands) -> [KernelArgument] {
    let (o, i) = (operands.outputs, operands.inputs)
    return ([o[0], i[0], o[1], o[2], o[3], i[1], i[2]] + operands.extras).map { .buffer($0) } + [.real(epsilon)]
  }
}

/// The backward pass of batch norm in training.
///
/// Operands: outputs dx, dscale, dshift; inputs dy, x, scale, mean, residual, variance.
public struct BatchNormBackwardProblem: KernelProblem {
  /// Where the channels are.
  public var extents: ChannelExtents
  /// Added to the variance.
  public var epsilon: Double
  /// Element type of the floating-point operands.
  public var dtype: DType
  /// What becomes of dy once it is loaded; nil for nothing.
  public var prologue: Slot?

  /// The problem of these sizes.
  public init(_ extents: ChannelExtents, epsilon: Double, dtype: DType = .float32, prologue: Slot? = nil) {
    self.extents = extents
    self.epsilon = epsilon
    self.dtype = dtype
    self.prologue = prologue
  }

  /// The name of the family.
  public static let family = "batchNormBackward"
  /// Sizes, for a person.
  public var label: String { extents.label }

  /// The first that takes device and problem wins.
  public static let variants: [Variant<BatchNormBackwardProblem>] = [
    Variant("columns", takes: { $1.isCPU && $0.extents.fitsColumns }) { problem, operands, context in
      let e = problem.extents
      return [
        try context.bind(
          "batchnorm_backward_columns", of: problem.spec("batchnorm_backward_columns.cl"),
          (operands.outputs + operands.inputs + operands.extras).map { .buffer($0) }
            + [.real(problem.epsilon), .int(e.outer), .int(e.channels)],
          global: [divideUp(e.channels, 8)], isSingleItem: true, label: e.label, flops: 12 * Double(e.count),
          bytes: problem.bytes(3))
      ]
    },
    Variant("rows", takes: { $1.isCPU && $0.extents.inner >= 8 }, workspaceBytes: \.workspaceBytes) {
      problem, operands, context in
      let e = problem.extents
      return try problem.bind(
        "batchnorm_backward_dx_rows", operands, context, global: [e.outer * e.channels], isSingleItem: true)
    },
    Variant("naive", workspaceBytes: \.workspaceBytes) { problem, operands, context in
      try problem.bind("batchnorm_backward_dx", operands, context, global: [problem.extents.count])
    },
  ]

  private var workspaceBytes: Int { 2 * extents.slices.count * extents.channels * dtype.byteCount }

  /// Sums of slices, their merge in index order, and dx by the kernel `dx`.
  private func bind(
    _ dx: String, _ operands: Operands, _ context: ComputeContext, global: [Int], isSingleItem: Bool = false
  ) throws -> [BoundLaunch] {
    guard let workspace = operands.workspace else { throw PrimitiveError(Self.family, "expects a workspace") }
    let (e, slices) = (extents, extents.slices)
    let (o, i, extras) = (operands.outputs, operands.inputs, operands.extras)
    let reduce = spec("batchnorm_backward_reduce.cl")
    return [
      try context.bind(
        "batchnorm_backward_reduce_partial", of: reduce,
        ([workspace, i[0], i[1], i[3], i[4], i[5]] + extras).map { .buffer($0) }
          + [
            .real(epsilon), .int(e.outer), .int(e.channels), .int(e.inner), .int(slices.count), .long(slices.length),
          ], global: [e.channels, slices.count], label: e.label, flops: 6 * Double(e.count), bytes: bytes(2)),
      try context.bind(
        "batchnorm_backward_reduce_merge", of: reduce,
        [o[1], o[2], workspace].map { .buffer($0) } + [.int(e.channels), .int(slices.count)], global: [e.channels],
        label: e.label),
      try context.bind(
        dx, of: spec("batchnorm_backward_dx.cl"),
        ([o[0]] + i + [o[1], o[2]] + extras).map { .buffer($0) }
          + [.real(epsilon), .int(e.outer), .int(e.channels), .int(e.inner)], global: global,
        isSingleItem: isSingleItem, label: e.label, flops: 6 * Double(e.count), bytes: bytes(3)),
    ]
  }

  private func bytes(_ passes: Int) -> Double { Double(passes * extents.count * dtype.byteCount) }

  private func spec(_ file: String) -> ProgramSpec {
    var spec = ProgramSpec(file, dtype)
    prologue?.fill("PROLOGUE", in: &spec)
    return spec
  }
}
