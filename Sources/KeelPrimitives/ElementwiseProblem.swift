import KeelCL
import KeelCore

/// Work-items of the CPU variants of flat kernels: a multiple of eight elements, 8 items or so for a large tensor and one
/// for a small one. A function of the size alone.
func flatBlock(_ count: Int) -> Int { max(4096, divideUp(divideUp(count, 8), 64) * 64) }

/// A generated kernel over the elements of its output, in index order.
///
/// Operands: outputs one; inputs as the text names them, `a0`, `a1`, ….
public struct ElementwiseProblem: KernelProblem {
  /// An operand that is not the output's own shape has sizes that its index is computed from.
  public var count: Int
  /// Element type of the output.
  public var dtype: DType
  /// Element types of the inputs.
  public var inputs: [DType]
  /// Names and values of `int` arguments that the body's indices use.
  public var sizes: [Size]
  /// Statements that store element `i` of the output: `STORE(o0, i, …)`.
  public var body: String
  /// Whether eight neighbouring elements of every operand can be loaded or repeated as one vector.
  public var isVectorizable: Bool
  /// What it computes, for a person.
  public var title: String

  /// A named `int` argument.
  public struct Size: Hashable, Sendable {
    /// As the body names it.
    public var name: String
    /// What it is.
    public var value: Int

    /// The problem of these sizes.
    public init(_ name: String, _ value: Int) {
      self.name = name
      self.value = value
    }
  }

  /// The problem of these sizes.
  public init(
    count: Int, dtype: DType, inputs: [DType], sizes: [Size], body: String, isVectorizable: Bool, title: String
  ) {
    self.count = count
    self.dtype = dtype
    self.inputs = inputs
    self.sizes = sizes
    self.body = body
    self.isVectorizable = isVectorizable
    self.title = title
  }

  /// The name of the family.
  public static let family = "elementwise"

  /// What is computed in, the program's `REAL`: the type of the output, but the wider one of its operands where it is of a
  /// type of storage.
  var real: DType {
    guard dtype.isStorageOnly else { return dtype }
    return inputs.contains(.float64) ? .float64 : dtype.arithmetic
  }

  /// Sizes, for a person.
  public var label: String { "\(title) \(count)" }

  /// The first that takes device and problem wins.
  public static let variants: [Variant<ElementwiseProblem>] = [
    Variant("blocks", takes: { $1.isCPU }) { problem, operands, context in
      let block = flatBlock(problem.count)
      return [
        try problem.bind(
          "elementwise_blocks", operands, context, block: block, global: [divideUp(problem.count, block)],
          isSingleItem: true)
      ]
    },
    Variant("naive") { problem, operands, context in
      [
        try problem.bind(
          "elementwise_each", operands, context, block: 1, global: [problem.count], isSingleItem: false)
      ]
    },
  ]

  private func bind(
    _ kernel: String, _ operands: Operands, _ context: ComputeContext, block: Int, global: [Int], isSingleItem: Bool
  ) throws -> BoundLaunch {
    var spec = ProgramSpec("elementwise.cl", real, stored: dtype)
    // Not restrict: an update in place has the same buffer on both sides.
    let parameters =
      ["__global STORED* o0"]
      + inputs.enumerated().map { "__global const \($0.element.openCLName)* a\($0.offset)" }
      + sizes.map { "int \($0.name)" }
    spec.define("ELEMENTWISE_PARAMETERS", parameters.joined(separator: ", "))
    spec.define("ELEMENTWISE_BODY(V, LOAD, STORE, i)", "{ \(body) }")
    if !isVectorizable { spec.define("ELEMENTWISE_SCALAR", "1") }
    return try context.bind(
      kernel, of: spec,
      (operands.outputs + operands.inputs).map { .buffer($0) } + sizes.map { .int($0.value) }
        + [.long(count), .long(block)],
      global: global, isSingleItem: isSingleItem, label: label,
      bytes: Double(count * inputs.reduce(dtype.byteCount) { $0 + $1.byteCount }))
  }
}
