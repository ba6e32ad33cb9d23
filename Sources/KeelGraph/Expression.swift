import KeelCore

/// A straight-line program of elementwise functions: what fusion makes of several nodes, and what kernels take in
/// their slots. Each instruction has the shape of the result.
public struct Expression: Hashable, Sendable {
  public enum Operand: Hashable, Sendable {
    case input(Int)
    case constant(Double)
    case instruction(Int)
  }

  public struct Instruction: Hashable, Sendable {
    public var function: ElementwiseName
    public var operands: [Operand]

    public init(_ function: ElementwiseName, _ operands: [Operand]) {
      self.function = function
      self.operands = operands
    }
  }

  public var inputCount: Int
  /// Never empty; the last one is the result.
  public var instructions: [Instruction]

  public init(inputCount: Int, instructions: [Instruction]) {
    self.inputCount = inputCount
    self.instructions = instructions
  }

  /// The expression that applies one function to inputs 0, 1, …
  public init(_ function: ElementwiseName) {
    let arity = function.row.arity
    self.init(inputCount: arity, instructions: [Instruction(function, (0..<arity).map { .input($0) })])
  }

  /// What is wrong with the program; nil when nothing is.
  var problem: String? {
    if instructions.isEmpty || inputCount < 1 { return "expects an input and an instruction, got none" }
    for (position, instruction) in instructions.enumerated() {
      let arity = instruction.function.row.arity
      guard instruction.operands.count == arity else {
        return "\(instruction.function) expects \(arity) operands, got \(instruction.operands.count)"
      }
      for operand in instruction.operands {
        switch operand {
        case .input(let index) where !(0..<inputCount).contains(index):
          return "expects inputs below \(inputCount), got \(index)"
        case .instruction(let index) where !(0..<position).contains(index):
          return "instruction \(position) expects earlier ones, got \(index)"
        default: break
        }
      }
    }
    return nil
  }

  /// Adds the nodes of the expression to a graph. There are as many inputs as it has.
  func trace(_ inputs: [Tensor]) -> Tensor {
    guard let builder = inputs.first?.builder else { preconditionFailure("an expression has an input") }
    var results: [Tensor] = []
    for instruction in instructions {
      let operands = instruction.operands.map { operand -> Tensor in
        switch operand {
        case .input(let index): inputs[index]
        case .constant(let value): builder.constant(value, .scalar, inputs[0].dtype)
        case .instruction(let index): results[index]
        }
      }
      results.append(builder.append(.elementwise(Elementwise(instruction.function)), operands)[0])
    }
    return results[results.count - 1]
  }

  /// The expression with `inner` in the place of input `index`. The inputs of the result are this expression's without
  /// `index`, then those of `inner`; `merge` renames them afterwards.
  func substituting(_ inner: Expression, for index: Int) -> Expression {
    var result = Expression(
      inputCount: inputCount - 1 + inner.inputCount,
      instructions: inner.instructions.map {
        Instruction(
          $0.function,
          $0.operands.map { operand in
            if case .input(let input) = operand { return .input(inputCount - 1 + input) }
            return operand
          })
      })
    let offset = inner.instructions.count
    for instruction in instructions {
      result.instructions.append(
        Instruction(
          instruction.function,
          instruction.operands.map { operand in
            switch operand {
            case .input(index): .instruction(offset - 1)
            case .input(let input): .input(input > index ? input - 1 : input)
            case .constant: operand
            case .instruction(let position): .instruction(position + offset)
            }
          }))
    }
    return result
  }

  /// Input `i` becomes input `names[i]`.
  func renamingInputs(_ names: [Int], count: Int) -> Expression {
    Expression(
      inputCount: count,
      instructions: instructions.map {
        Instruction(
          $0.function,
          $0.operands.map { operand in
            if case .input(let input) = operand { return .input(names[input]) }
            return operand
          })
      })
  }

  /// Input `index` becomes a number; the inputs behind it move up.
  func binding(_ index: Int, to value: Double) -> Expression {
    Expression(
      inputCount: inputCount - 1,
      instructions: instructions.map {
        Instruction(
          $0.function,
          $0.operands.map { operand in
            guard case .input(let input) = operand else { return operand }
            return input == index ? .constant(value) : .input(input > index ? input - 1 : input)
          })
      })
  }
}

extension Expression: CustomStringConvertible {
  /// Nested calls, the operands as `$0`, `$1`: `relu(add($0, $1))`. What is read more than once is named first, so that
  /// the text grows with the instructions: `t0 = exp($0); multiply(t0, t0)`.
  public var description: String {
    var uses = [Int](repeating: 0, count: instructions.count)
    for case .instruction(let index) in instructions.flatMap(\.operands) { uses[index] += 1 }
    var texts: [String] = []
    var named: [String] = []
    for (index, instruction) in instructions.enumerated() {
      let operands = instruction.operands.map { operand -> String in
        switch operand {
        case .input(let input): "$\(input)"
        case .constant(let value): value == value.rounded() && abs(value) < 1e6 ? "\(Int(value))" : "\(value)"
        case .instruction(let earlier): texts[earlier]
        }
      }
      var text = "\(instruction.function.rawValue)(" + operands.joined(separator: ", ") + ")"
      if uses[index] > 1 {
        let name = "t\(named.count)"
        named.append("\(name) = \(text)")
        text = name
      }
      texts.append(text)
    }
    return (named + texts.suffix(1)).joined(separator: "; ")
  }
}

/// An expression over operands that broadcast to the shape of the result. It is computed in the operands' type, or the
/// one in which that is computed, and rounded once, when the result is stored.
public struct FusedElementwise: OperationRules {
  public let expression: Expression
  /// Of the result; nil for that of the operands, which then have one. Otherwise operands and result may be of any types
  /// that are computed in the same one.
  public let dtype: DType?

  public init(_ expression: Expression, to dtype: DType? = nil) {
    self.expression = expression
    self.dtype = dtype
  }

  public var name: String { "fused" }
  public var attributes: String { expression.description + (dtype.map { " to \($0)" } ?? "") }
  public var outputCount: Int { 1 }

  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: 1, slot: expression)
    let shape = try broadcastShape(inputs, name)
    guard let dtype else { return [TensorType(shape, try expectFloatingPoint(inputs))] }
    guard dtype.isFloatingPoint,
      inputs.allSatisfy({ $0.dtype.isFloatingPoint && $0.dtype.arithmetic == dtype.arithmetic })
    else { throw GraphError(name, "expects operands that are computed as \(dtype) is, got \(inputs)") }
    return [TensorType(shape, dtype)]
  }

  public func gradient(_ context: GradientContext) -> [Tensor?]? { nil }
  public func definition(_ inputs: [Tensor]) -> [Tensor]? {
    let result = dtype ?? inputs[0].dtype
    return [expression.trace(inputs.map { $0.cast(to: result.arithmetic) }).cast(to: result)]
  }
  public var inPlace: [(output: Int, operand: Int)] { (0..<expression.inputCount).map { (0, $0) } }
}

extension Node {
  /// The elementwise expression that the node computes, if it does, in one type that slots are computed in.
  func expression(in graph: Graph) -> Expression? {
    let dtype = types[0].dtype
    guard dtype.isFloatingPoint, !dtype.isStorageOnly, inputs.allSatisfy({ graph.type(of: $0).dtype == dtype }) else {
      return nil
    }
    switch operation {
    case .elementwise(let operation): return Expression(operation.function)
    case .fused(let operation): return operation.expression
    default: return nil
    }
  }
}
