import KeelCL
import KeelCore

/// The backward pass of batch norm in training.
///
/// Operands: outputs dx, dscale, dshift; inputs dy, x, scale, mean, residual, variance.
public struct BatchNormBackwardProblem: KernelProblem {
  /// Where the channels are.
  public var extents: ChannelExtents
  /// Added to the variance.
  public var epsilon: Double
  /// Element type of x, dy and dx; all else is of its `arithmetic`.
  public var dtype: DType
  /// What becomes of dy once it is loaded, its operands of dy's shape or one element; nil for nothing.
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
  public static let variants: [Variant<BatchNormBackwardProblem>] = BatchNormForm.allCases.map { form in
    Variant(
      form.rawValue, takes: { form.takes($0.extents, $1) }, suits: { form.suits($0.extents, $1) },
      workspaceBytes: { problem, _ in problem.workspaceBytes(form) }
    ) { problem, operands, context in
      form.isFused ? [try problem.fused(form, operands, context)] : try problem.sliced(form, operands, context)
    }
  }

  private func workspaceBytes(_ form: BatchNormForm) -> Int {
    form.isFused ? 0 : 2 * form.slices(extents).count * extents.channels * dtype.arithmetic.byteCount
  }

  /// Bytes of so many passes over x, dy or dx.
  private func bytes(_ passes: Int) -> Double { Double(passes * extents.count * dtype.byteCount) }

  private func spec(_ file: String, _ form: BatchNormForm) -> ProgramSpec {
    var spec = ProgramSpec(file, dtype.arithmetic, stored: dtype)
    form.define(in: &spec, extents)
    prologue?.fill("PROLOGUE", in: &spec, isStored: true)
    return spec
  }

  private func fused(_ form: BatchNormForm, _ operands: Operands, _ context: ComputeContext) throws -> BoundLaunch {
    let launch = form.partialLaunch(extents)
    let sizes = form == .fused ? [.int(extents.outer), .int(extents.channels)] : extents.sizes
    return try context.bind(
      "batchnorm_backward\(form.fusedSuffix)", of: spec("batchnorm_backward_fused.cl", form),
      (operands.outputs + operands.inputs + operands.extras).map { .buffer($0) }
        + [.real(epsilon)] + sizes, global: launch.global, local: launch.local, label: label,
      flops: 12 * Double(extents.count), bytes: bytes(3))
  }

  /// Sums of slices, their merge in index order, and dx.
  private func sliced(_ form: BatchNormForm, _ operands: Operands, _ context: ComputeContext) throws -> [BoundLaunch] {
    guard let workspace = operands.workspace else { throw PrimitiveError(Self.family, "expects a workspace") }
    let (e, o, i, slices) = (extents, operands.outputs, operands.inputs, form.slices(extents))
    let reduce = spec("batchnorm_backward_reduce.cl", form)
    let (partial, merge, result) = (form.partialLaunch(e), form.mergeLaunch(e), form.resultLaunch(e))
    return [
      try context.bind(
        "batchnorm_backward\(form.partialSuffix)", of: reduce,
        ([workspace, i[0], i[1], i[3], i[4], i[5]] + operands.extras).map { .buffer($0) }
          + [.real(epsilon)] + e.sizes + [.int(slices.count), .long(slices.length)], global: partial.global,
        local: partial.local, label: label, flops: 6 * Double(e.count), bytes: bytes(2)),
      try context.bind(
        "batchnorm_backward_merge\(merge.suffix)", of: reduce,
        [o[1], o[2], workspace].map { .buffer($0) } + [.int(e.channels), .int(slices.count)],
        global: merge.launch.global, local: merge.launch.local, label: label,
        flops: 2 * Double(e.channels * slices.count), bytes: 2 * Double(e.channels * slices.count * dtype.byteCount)),
      try context.bind(
        "batchnorm_backward_dx\(form.resultSuffix)", of: spec("batchnorm_backward_dx.cl", form),
        ([o[0]] + i + [o[1], o[2]] + operands.extras).map { .buffer($0) }
          + [.real(epsilon)] + e.sizes + [.int(result.linesPerItem)], global: result.launch.global,
        local: result.launch.local, label: label, flops: 6 * Double(e.count), bytes: bytes(3)),
    ]
  }
}
