import KeelCL
import KeelCore

/// The softmax cross-entropy family, a row of logits [rows, classes] each.
///
/// Operands: `.forward` outputs losses; inputs logits, labels. `.backward` outputs dlogits; inputs dlosses, logits,
/// labels. `.topOne` outputs 1 or 0; inputs logits, labels.
public struct SoftmaxProblem: KernelProblem {
  public enum Kind: String, Hashable, Sendable {
    case forward
    case backward
    case topOne
  }

  public var kind: Kind
  public var rows: Int
  public var classes: Int
  public var dtype: DType

  public init(_ kind: Kind, rows: Int, classes: Int, dtype: DType = .float32) {
    self.kind = kind
    self.rows = rows
    self.classes = classes
    self.dtype = dtype
  }

  public static let family = "softmaxCrossEntropy"
  public var label: String { "\(rows)×\(classes)" }

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
          kernel, of: ProgramSpec("softmax_cross_entropy.cl", real: problem.dtype.real), real: problem.dtype,
          (operands.outputs + operands.inputs).map { .buffer($0) } + [.int(problem.rows), .int(problem.classes)],
          global: [problem.rows], label: problem.label,
          bytes: Double(problem.rows * problem.classes * problem.dtype.byteCount))
      ]
    }
  ]
}
