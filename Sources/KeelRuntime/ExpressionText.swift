import KeelCore
import KeelGraph
import KeelPrimitives

extension Expression {
  /// The expression as statements of OpenCL C over variables of type `V`, one for each instruction.
  ///
  /// - Parameters:
  ///   - inputs: the text that stands for each input.
  ///   - constant: the text that stands for a number.
  ///   - result: what to do with the last value.
  func statements(
    inputs: [String], constant: (Double) -> String = \.literal, result: (String) -> String
  ) -> String {
    var text = ""
    for (index, instruction) in instructions.enumerated() {
      var code = instruction.function.row.code
      for (position, operand) in instruction.operands.enumerated().reversed() {
        let operandText =
          switch operand {
          case .input(let input): inputs[input]
          case .constant(let value): constant(value)
          case .instruction(let earlier): "t\(earlier)"
          }
        code = code.replacing("$\(position)", with: operandText)
      }
      text += "V t\(index) = \(code); "
    }
    return text + result("t\(instructions.count - 1)")
  }

  /// The expression for a kernel's slot; input 0 is the kernel's own value.
  func slot(_ extras: [Slot.Access]) -> Slot {
    let inputs = ["(value)"] + extras.indices.map { "a\($0)" }
    return Slot(extras: extras, statements: statements(inputs: inputs) { "(value) = \($0);" })
  }
}

extension Double {
  /// The number as a literal of the kernel's vector type.
  var literal: String {
    if isNaN { return "(V)(NAN)" }
    if isInfinite { return self < 0 ? "(V)(-INFINITY)" : "(V)(INFINITY)" }
    // Swift prints the shortest text that reads back as the same double; OpenCL wants a point or an exponent, which
    // that text has.
    return "(V)(R(\(self)))"
  }
}

extension ElementwiseProblem {
  /// The kernel for an expression over operands that broadcast to `output`.
  init(_ expression: Expression, inputs: [TensorType], output: TensorType, title: String) {
    var sizes: [Size] = []
    var loads = ""
    var width = 16
    for (index, input) in inputs.enumerated() {
      let access = BroadcastAccess(input.shape, to: output.shape)
      width = min(width, access.width)
      loads += "V x\(index) = \(access.load("a\(index)", input.dtype, sizes: &sizes, prefix: "s\(index)_")); "
    }
    // Numbers are arguments, too, of one program: one over the batch size is one of them.
    var numbers: [Double] = []
    let body =
      loads
      + expression.statements(
        inputs: inputs.indices.map { "x\($0)" },
        constant: { value in
          guard output.dtype.isFloatingPoint, numbers.count < Self.mostNumbers else { return value.literal }
          numbers.append(value)
          return "(V)(c\(numbers.count - 1))"
        }, result: { "STORE(o0, i, \($0));" })
    self.init(
      count: output.count, dtype: output.dtype, inputs: inputs.map(\.dtype), sizes: sizes, numbers: numbers, body: body,
      width: width, title: title)
  }
}

extension ElementwiseProblem {
  /// A device may have no more than a kilobyte of arguments; numbers beyond this are in the text.
  private static let mostNumbers = 16
}

/// How an element of an operand is found from the linear index `i` of the result it is stretched to.
struct BroadcastAccess {
  /// Neighbouring axes of the result that are all stretched or all not, outermost first.
  struct Group {
    var extent: Int
    var isStretched: Bool
  }
  let groups: [Group]

  init(_ shape: Shape, to result: Shape) {
    let extra = result.rank - shape.rank
    var groups: [Group] = []
    for axis in 0..<result.rank where result[axis] != 1 {
      let isStretched = axis < extra || shape[axis - extra] == 1
      if let last = groups.last, last.isStretched == isStretched {
        groups[groups.count - 1].extent *= result[axis]
      } else {
        groups.append(Group(extent: result[axis], isStretched: isStretched))
      }
    }
    self.groups = groups
  }

  /// So many neighbours of the result are as many neighbours here, or the same element as often: 16, 8 or 1.
  var width: Int { [16, 8].first { groups.count <= 1 || groups[groups.count - 1].extent % $0 == 0 } ?? 1 }

  /// The expression that loads the operand and converts it; sizes it needs are appended as arguments.
  func load(_ operand: String, _ dtype: DType, sizes: inout [ElementwiseProblem.Size], prefix: String) -> String {
    func vector(_ index: String) -> String { "LOAD##_\(dtype.openCLName)(\(operand), \(index))" }
    func repeated(_ index: String) -> String { "(V)(LOAD1_\(dtype.openCLName)(\(operand), \(index)))" }
    guard groups.contains(where: { !$0.isStretched }) else { return repeated("0") }
    guard groups.contains(where: \.isStretched) else { return vector("i") }
    var terms: [String] = []
    var resultStride = 1
    var ownStride = 1
    for (position, group) in groups.enumerated().reversed() {
      if !group.isStretched {
        var term = "i"
        if resultStride > 1 { term += " / \(argument(resultStride, &sizes, "\(prefix)\(position)d"))" }
        if position > 0 { term = "(\(term)) % \(argument(group.extent, &sizes, "\(prefix)\(position)m"))" }
        if ownStride > 1 { term = "((\(term)) * \(argument(ownStride, &sizes, "\(prefix)\(position)t")))" }
        terms.append(term)
        ownStride *= group.extent
      }
      resultStride *= group.extent
    }
    let index = terms.reversed().joined(separator: " + ")
    return groups[groups.count - 1].isStretched ? repeated(index) : vector(index)
  }

  /// Sizes are arguments, so that one program serves every batch size.
  private func argument(_ value: Int, _ sizes: inout [ElementwiseProblem.Size], _ name: String) -> String {
    sizes.append(ElementwiseProblem.Size(name, value))
    return "(size_t)\(name)"
  }
}
