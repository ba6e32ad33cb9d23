import KeelCL
import KeelCore

/// Z = op(A)·op(B) and the batch norm of its columns, in training.
///
/// Operands: outputs Z, y, mean, residual, variance; inputs A, B, scale, shift; extras those of the product's epilogue,
/// then those of the batch norm's.
public struct GemmBatchNormProblem: KernelProblem {
  /// Z.
  public var product: GemmProblem
  /// What Z's columns become.
  public var batchNorm: BatchNormForwardProblem

  /// The problem of these two, of one element type: the batch norm is of the product's rows and columns.
  public init(_ product: GemmProblem, _ batchNorm: BatchNormForwardProblem) {
    self.product = product
    self.batchNorm = batchNorm
  }

  /// The name of the family.
  public static let family = "gemmBatchNorm"
  /// Sizes, for a person.
  public var label: String { product.label }
  /// Element type of all operands.
  public var dtype: DType { product.dtype }

  /// The first that takes problem and device, and suits them, wins.
  public static let variants: [Variant<GemmBatchNormProblem>] = [
    Variant(
      "columns", takes: { problem, profile in profile.isCPU && problem.isForColumns },
      suits: { problem, profile in problem.suitsColumns(profile) }
    ) { problem, operands, context in [try problem.columns(operands, context)] },
    // The two parts by themselves.
    Variant(
      "naive",
      workspaceBytes: { problem, profile in
        // The two are not at work at the same time.
        max(
          (try? problem.product.variant(on: profile))?.workspaceBytes(problem.product, profile) ?? 0,
          (try? problem.batchNorm.variant(on: profile))?.workspaceBytes(problem.batchNorm, profile) ?? 0)
      }
    ) { problem, operands, context in try problem.parts(operands, context) },
  ]

  private var isForColumns: Bool {
    dtype == dtype.arithmetic && dtype.isFloatingPoint && !product.transposeB && product.update == nil && product.n > 0
      && batchNorm.extents.inner == 1
  }

  private func suitsColumns(_ profile: DeviceProfile) -> Bool {
    // Whole register tiles, and cores have as much to do as each other. With fewer columns a product is shared out by
    // rows, too, so that a core reads those that it has.
    items(of: Self.tileColumns) >= 4 * profile.computeUnits
  }

  /// Of a work-item: a multiple of what batchnorm.clh has, and of the columns of every device's register tile.
  private static let tileColumns = 32

  /// Work-items with so many columns each; the last has up to 15 more.
  private func items(of columns: Int) -> Int { max(divideUp(product.n - 15, columns), 1) }

  private func columns(_ operands: Operands, _ context: ComputeContext) throws -> BoundLaunch {
    var spec = product.spec("gemm_batchnorm_cpu.cl", slot: "PRODUCT")
    BatchNormForm.fused.define(in: &spec, batchNorm.extents)
    batchNorm.epilogue?.fill("NORMALIZED", in: &spec, operand: "n", isStored: true)
    let (inputs, extras) = (operands.inputs, operands.extras)
    let split = product.epilogue?.extras.count ?? 0
    let buffers = operands.outputs + inputs[..<2] + extras[..<split] + inputs[2...] + extras[split...]
    let bytes = product.bytes + Double(product.m * product.n * dtype.byteCount)
    return try context.bind(
      "gemm_batchnorm_cpu", of: spec,
      buffers.map { .buffer($0) }
        + [.real(batchNorm.epsilon), .int(product.m), .int(product.n), .int(product.k), .int(Self.tileColumns)],
      global: [items(of: Self.tileColumns)], isSingleItem: true, label: label,
      flops: product.flops + 10 * Double(product.m * product.n), bytes: bytes)
  }

  /// The launches of the product, then those of the batch norm.
  private func parts(_ operands: Operands, _ context: ComputeContext) throws -> [BoundLaunch] {
    let (inputs, extras) = (operands.inputs, operands.extras)
    let split = product.epilogue?.extras.count ?? 0
    let first = Operands(
      outputs: [operands.outputs[0]], inputs: Array(inputs[..<2]), extras: Array(extras[..<split]),
      workspace: operands.workspace)
    let second = Operands(
      outputs: Array(operands.outputs[1...]), inputs: [operands.outputs[0]] + inputs[2...],
      extras: Array(extras[split...]), workspace: operands.workspace)
    return try product.variant(on: context.profile).bind(product, first, context)
      + batchNorm.variant(on: context.profile).bind(batchNorm, second, context)
  }
}
