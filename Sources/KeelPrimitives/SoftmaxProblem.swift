import KeelCL
import KeelCore

/// The softmax cross-entropy family, a row of logits [rows, classes] each.
///
/// Operands: `.forward` outputs losses; inputs logits, labels. `.backward` outputs dlogits; inputs dlosses, logits,
/// labels. `.topOne` outputs 1 or 0; inputs logits, labels.
public struct SoftmaxProblem: KernelProblem {
  /// Which of the three kernels.
  public enum Kind: String, Hashable, Sendable {
    case forward
    case backward
    case topOne
  }

  /// Which of the three kernels.
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
  /// Sizes, for a person.
  public var label: String { "\(rows)×\(classes)" }

  /// The first that takes device and problem wins.
  public static let variants: [Variant<SoftmaxProblem>] = [
    Variant("naive") { problem, operands, context in
      let kernel =
        switch problem.kind {
        case .forward: "softmax_cross_entropy_forward"
        case .backward: "softmax_cross_entropy_backward"
        case .topOne: "softmax_cross_entropy_top_one"
        }
      return [
        try context.bind(
          kernel, of: ProgramSpec("softmax_cross_entropy.cl", problem.dtype),
          (operands.outputs + operands.inputs).map { .buffer($0) } + [.int(problem.rows), .int(problem.classes)],
          global: [problem.rows], label: problem.label,
          bytes: Double(problem.rows * problem.classes * problem.dtype.byteCount))
      ]
    }
  ]
}
