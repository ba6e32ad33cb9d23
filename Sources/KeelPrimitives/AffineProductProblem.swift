import KeelCL
import KeelCore

/// The gradients of (γ⊙x̂ + β)·W from Q = x̂ᵀ·dZ [channels, columns] and the column sums of dZ.
///
/// Operands: outputs dW, dγ, dβ; inputs Q, W, sums, γ, β.
public struct AffineProductProblem: KernelProblem {
  /// Rows of W.
  public var channels: Int
  /// Columns of W.
  public var columns: Int
  /// Element type of all operands.
  public var dtype: DType

  /// The problem of these sizes.
  public init(channels: Int, columns: Int, dtype: DType = .float32) {
    self.channels = channels
    self.columns = columns
    self.dtype = dtype
  }

  /// The name of the family.
  public static let family = "affineProduct"
  /// Sizes, for a person.
  public var label: String { "\(channels)×\(columns)" }

  /// The first that takes device and problem wins.
  public static let variants: [Variant<AffineProductProblem>] = [
    Variant("rows", takes: { $1.isCPU }) { problem, operands, context in
      let block = divideUp(problem.channels, 16)
      return [
        try problem.bind(
          "affine_product_rows", operands, context, [.int(block)], global: [divideUp(problem.channels, block)],
          isSingleItem: true)
      ]
    },
    Variant("naive") { problem, operands, context in
      [try problem.bind("affine_product_each", operands, context, [], global: [problem.channels], isSingleItem: false)]
    },
  ]

  private func bind(
    _ kernel: String, _ operands: Operands, _ context: ComputeContext, _ sizes: [KernelArgument], global: [Int],
    isSingleItem: Bool
  ) throws -> BoundLaunch {
    try context.bind(
      kernel, of: ProgramSpec("affine_product.cl", dtype),
      (operands.outputs + operands.inputs).map { .buffer($0) } + [.int(channels), .int(columns)] + sizes,
      global: global, isSingleItem: isSingleItem, label: label, flops: Double(7 * channels * columns),
      bytes: Double(3 * channels * columns * dtype.byteCount))
  }
}
