import KeelCL
import KeelCore

/// The softmax cross-entropy family, a row of logits [rows, classes] each.
///
/// Operands: `.forward` outputs losses; inputs logits, labels. `.backward` outputs dlogits; inputs dlosses, logits,
/// labels. `.topOne` outputs 1 or 0; inputs logits, labels. `.withGradient` outputs losses, dlogits, and the first choices
/// where it says so; inputs as `.backward`.
public struct SoftmaxProblem: KernelProblem {
  /// Which of the kernels.
  public enum Kind: String, Hashable, Sendable {
    case forward
    case backward
    case topOne
    case withGradient
    case withGradientAndTopOne
  }

  /// Which of the kernels.
  public var kind: Kind
  /// Rows of the logits.
  public var rows: Int
  /// Columns of the logits.
  public var classes: Int
  /// Element type of the floating-point operands.
  public var dtype: DType

  /// The problem of these sizes.
  public init(_ kind: Kind, rows: Int, classes: Int, dtype: DType = .float32) {
    self.kind = kind
    self.rows = rows
    self.classes = classes
    self.dtype = dtype
  }

  /// The name of the family.
  public static let family = "softmaxCrossEntropy"
  /// Kind and sizes, for a person.
  public var label: String { "\(kind) \(rows)×\(classes)" }

  /// The first that takes device and problem wins.
  public static let variants: [Variant<SoftmaxProblem>] = [
    // Numbers of classes are floats there.
    Variant("rows", takes: { $1.isCPU && $0.classes <= 1 << 24 }) { [try $0.bind("_rows", $1, $2)] },
    Variant("naive") { [try $0.bind("", $1, $2)] },
  ]

  private func bind(_ form: String, _ operands: Operands, _ context: ComputeContext) throws -> BoundLaunch {
    let kernel =
      switch kind {
      case .forward: "softmax_cross_entropy_forward"
      case .backward: "softmax_cross_entropy_backward"
      case .topOne: "softmax_cross_entropy_top_one"
      case .withGradient, .withGradientAndTopOne: "softmax_cross_entropy_with_gradient"
      }
    var spec = ProgramSpec("softmax_cross_entropy.cl", dtype)
    if kind == .withGradientAndTopOne { spec.define("WITH_TOP_ONE", "1") }
    // Some thousand logits an item, and 64 items or so of many.
    let block = form.isEmpty ? 1 : roundUp(max(divideUp(4096, classes), divideUp(rows, 64)), 16)
    let writesGradient = kind != .forward && kind != .topOne
    let values = rows * classes * (writesGradient ? 2 : 1) + rows * operands.outputs.count
    return try context.bind(
      kernel + form, of: spec,
      (operands.outputs + operands.inputs).map { .buffer($0) } + [.int(rows), .int(classes), .long(block)],
      global: [divideUp(rows, block)], isSingleItem: !form.isEmpty, label: label,
      flops: kind == .topOne ? 0 : 25 * Double(rows * classes),
      bytes: Double(values * dtype.byteCount + rows * DType.int32.byteCount))
  }
}
