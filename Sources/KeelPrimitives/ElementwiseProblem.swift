import KeelCL
import KeelCore

/// Elements of a work-item of the CPU variants of flat kernels: a multiple of 64, so that there are 64 items or so of a
/// large tensor and one of a small one. A function of the size alone.
func flatBlock(_ count: Int) -> Int { max(4096, divideUp(divideUp(count, 64), 64) * 64) }

/// An output of so many bytes is written past the caches: what reads it next would hardly find it there.
let streamedBytes = 16 << 20

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
  /// Values of `REAL` arguments `c0`, `c1`, … that the body computes with; none where `REAL` is an integer.
  public var numbers: [Double]
  /// Statements that store element `i` of the output: `STORE(o0, i, …)`.
  public var body: String
  /// How many neighbouring elements of every operand can be loaded or repeated as one vector: 16, 8 or 1.
  public var width: Int
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
    count: Int, dtype: DType, inputs: [DType], sizes: [Size], numbers: [Double] = [], body: String, width: Int,
    title: String
  ) {
    self.count = count
    self.dtype = dtype
    self.inputs = inputs
    self.sizes = sizes
    self.numbers = numbers
    self.body = body
    self.width = width
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
    // Stores past the caches.
    Variant(
      "streams", takes: { $1.isCPU && $0.width == 16 }, suits: { problem, _ in problem.bytes >= streamedBytes }
    ) { problem, operands, context in
      // What is changed in place is in the cache when it is written.
      let isInPlace = operands.inputs.contains { $0 === operands.outputs[0] }
      return [try problem.bindBlocks(operands, context, streams: !isInPlace)]
    },
    Variant("blocks", takes: { $1.isCPU }) { [try $0.bindBlocks($1, $2, streams: false)] },
    Variant("naive") { problem, operands, context in
      [
        try problem.bind(
          "elementwise_each", operands, context, block: 1, global: [problem.count], isSingleItem: false)
      ]
    },
  ]

  /// Of the output.
  private var bytes: Int { count * dtype.byteCount }

  private func bindBlocks(_ operands: Operands, _ context: ComputeContext, streams: Bool) throws -> BoundLaunch {
    let block = flatBlock(count)
    return try bind(
      "elementwise_blocks", operands, context, block: block, global: [divideUp(count, block)], isSingleItem: true,
      streams: streams)
  }

  private func bind(
    _ kernel: String, _ operands: Operands, _ context: ComputeContext, block: Int, global: [Int], isSingleItem: Bool,
    streams: Bool = false
  ) throws -> BoundLaunch {
    var spec = ProgramSpec("elementwise.cl", real, stored: dtype)
    // Not restrict: an update in place has the same buffer on both sides.
    let parameters =
      ["__global STORED* o0"]
      + inputs.enumerated().map { "__global const \($0.element.openCLName)* a\($0.offset)" }
      + sizes.map { "int \($0.name)" } + numbers.indices.map { "REAL c\($0)" }
    spec.define("ELEMENTWISE_PARAMETERS", parameters.joined(separator: ", "))
    spec.define("ELEMENTWISE_BODY(V, LOAD, STORE, i)", "{ \(body) }")
    if width < 16 { spec.define("ELEMENTWISE_WIDTH", "\(width)") }
    if streams { spec.define("ELEMENTWISE_STREAMS", "1") }
    return try context.bind(
      kernel, of: spec,
      (operands.outputs + operands.inputs).map { .buffer($0) } + sizes.map { .int($0.value) }
        + numbers.map { .real($0) } + [.long(count), .long(block)],
      global: global, isSingleItem: isSingleItem, label: label,
      bytes: Double(count * inputs.reduce(dtype.byteCount) { $0 + $1.byteCount }))
  }
}
