import KeelCL
import KeelCore

/// Batch norm in training, with the statistics of the batch.
///
/// Operands: outputs y, mean, residual, variance; inputs x, scale, shift.
public struct BatchNormForwardProblem: KernelProblem {
  /// Where the channels are.
  public var extents: ChannelExtents
  /// Added to the variance.
  public var epsilon: Double
  /// Element type of x and y; all else is of its `arithmetic`.
  public var dtype: DType
  /// What becomes of y before it is stored, its operands of y's shape or one element; nil for nothing.
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
  public static let variants: [Variant<BatchNormForwardProblem>] = BatchNormForm.allCases.map { form in
    Variant(
      form.rawValue, takes: { form.takes($0.extents, $1) }, suits: { form.suits($0.extents, $1) },
      workspaceBytes: { problem, _ in problem.workspaceBytes(form) }
    ) { problem, operands, context in
      form.isFused ? [try problem.fused(form, operands, context)] : try problem.sliced(form, operands, context)
    }
  }

  private func workspaceBytes(_ form: BatchNormForm) -> Int {
    form.isFused ? 0 : 3 * form.slices(extents).count * extents.channels * dtype.arithmetic.byteCount
  }

  /// Bytes of so many passes over x or y.
  private func bytes(_ passes: Int) -> Double { Double(passes * extents.count * dtype.byteCount) }

  private func spec(_ file: String, _ form: BatchNormForm, slot: Bool = true) -> ProgramSpec {
    var spec = ProgramSpec(file, dtype.arithmetic, stored: dtype)
    form.define(in: &spec, extents)
    if slot { epilogue?.fill("EPILOGUE", in: &spec, isStored: true) }
    return spec
  }

  private func fused(_ form: BatchNormForm, _ operands: Operands, _ context: ComputeContext) throws -> BoundLaunch {
    let launch = form.partialLaunch(extents)
    let sizes = form == .fused ? [.int(extents.outer), .int(extents.channels)] : extents.sizes
    return try context.bind(
      "batchnorm_forward\(form.fusedSuffix)", of: spec("batchnorm_forward_fused.cl", form),
      (operands.outputs + operands.inputs + operands.extras).map { .buffer($0) }
        + [.real(epsilon)] + sizes, global: launch.global, local: launch.local, label: label,
      flops: 10 * Double(extents.count), bytes: bytes(2))
  }

  /// Statistics of slices, their merge in index order, and y.
  private func sliced(_ form: BatchNormForm, _ operands: Operands, _ context: ComputeContext) throws -> [BoundLaunch] {
    guard let workspace = operands.workspace else { throw PrimitiveError(Self.family, "expects a workspace") }
    let (e, o, i, slices) = (extents, operands.outputs, operands.inputs, form.slices(extents))
    let statistics = spec("batchnorm_statistics.cl", form, slot: false)
    let (partial, merge, result) = (form.partialLaunch(e), form.mergeLaunch(e), form.resultLaunch(e))
    let sizes = e.sizes + [.int(slices.count), .long(slices.length)]
    return [
      try context.bind(
        "batchnorm_statistics\(form.partialSuffix)", of: statistics, [.buffer(workspace), .buffer(i[0])] + sizes,
        global: partial.global, local: partial.local, label: label, flops: 4 * Double(e.count), bytes: bytes(1)),
      try context.bind(
        "batchnorm_statistics_merge\(merge.suffix)", of: statistics,
        [o[1], o[2], o[3], i[0], workspace].map { .buffer($0) } + sizes, global: merge.launch.global,
        local: merge.launch.local, label: label, flops: 25 * Double(e.channels * slices.count),
        bytes: 3 * Double(e.channels * slices.count * dtype.byteCount)),
      try context.bind(
        "batchnorm_normalize\(form.resultSuffix)", of: spec("batchnorm_normalize.cl", form),
        ([o[0], i[0], o[1], o[2], o[3], i[1], i[2]] + operands.extras).map { .buffer($0) }
          + [.real(epsilon)] + e.sizes + [.int(result.linesPerItem)], global: result.launch.global,
        local: result.launch.local, label: label, flops: 4 * Double(e.count), bytes: bytes(2)),
    ]
  }
}
