import Foundation
import KeelCore
import KeelGraph
import Testing

@Suite struct ElementwiseTests {
  /// Piecewise constant: nothing flows back, and central differences are 0.
  private static let flat: Set<ElementwiseName> = [.greater, .equal]

  /// The derivative of every row, through gradients and interpreter, against differences of its host function.
  @Test(arguments: ElementwiseName.allCases) func derivative(_ name: ElementwiseName) throws {
    let row = name.row
    let builder = GraphBuilder(dtype: .float64)
    let x = row.domain.indices.map { builder.input("\($0)", f64(50)) }
    let y = builder.append(.elementwise(Elementwise(name)), x)[0]
    builder.output("y", y)
    for (index, gradient) in builder.gradients(of: y.sum(), withRespectTo: x).enumerated() {
      builder.output("d\(index)", gradient)
    }
    var random = Philox(seed: 3)
    let points = row.domain.map { domain in
      (0..<50).map { _ in domain.lowerBound + random.nextUniform() * (domain.upperBound - domain.lowerBound) }
    }
    let named = Dictionary(uniqueKeysWithValues: points.enumerated().map { ("\($0.offset)", $0.element) })
    let outputs = try Interpreter(builder.graph()).run(named).outputs
    let h = 1e-6
    var largest = 0.0
    for element in 0..<50 {
      let point = points.map { $0[element] }
      #expect(outputs["y"]?[element] == row.host(point))
      for operand in point.indices {
        var (above, below) = (point, point)
        above[operand] += h
        below[operand] -= h
        let slope = (row.host(above) - row.host(below)) / (2 * h)
        largest = max(largest, abs(slope))
        let gradient = try #require(outputs["d\(operand)"]?[element])
        #expect(abs(gradient - slope) < 1e-7 * max(1, abs(slope)), "\(name) operand \(operand) at \(point)")
      }
    }
    #expect((largest == 0) == Self.flat.contains(name))
  }

  @Test(arguments: ElementwiseName.allCases) func rowIsWhole(_ name: ElementwiseName) {
    // Every operand stands in the kernel text, and no other.
    for position in 0..<3 {
      #expect(name.row.code.contains("$\(position)") == (position < name.row.arity))
    }
  }

  @Test func hostFunctionsAtTheirEdges() {
    func host(_ name: ElementwiseName, _ x: Double...) -> Double { name.row.host(x) }
    #expect(host(.relu, -1) == 0 && host(.relu, 2) == 2 && host(.relu, .nan).isNaN)
    #expect(host(.maximum, 1, .nan).isNaN || host(.maximum, .nan, 1).isNaN)
    #expect(host(.minimum, 3, 2) == 2 && host(.maximum, 3, 2) == 3)
    #expect(host(.greater, 1, 1) == 0 && host(.equal, 1, 1) == 1 && host(.equal, .nan, .nan) == 0)
    #expect(host(.select, 0, 1, 2) == 2 && host(.select, -0.5, 1, .nan) == 1)
    #expect(host(.sigmoid, -1000) == 0 && host(.sigmoid, 1000) == 1)
    #expect(host(.elu, -1e-12, 1) == Foundation.expm1(-1e-12))
    #expect(host(.elu, 3, 0.5) == 3)
  }

  @Test func whatIsNotChosenDoesNotSpoilGradients() throws {
    // log is −∞ at 0 with an infinite slope; select keeps it out of y, the cotangent of the other side stays clean.
    let builder = GraphBuilder(dtype: .float64)
    let x = builder.input("x", f64(3))
    let chosen = x.elementwise(.greater, 0.0).elementwise(.select, x * 3.0, x.elementwise(.square))
    builder.output("dx", builder.gradients(of: chosen.elementwise(.reciprocal).sum(), withRespectTo: [x])[0])
    let dx = try #require(try Interpreter(builder.graph()).run(["x": [2, -1, -2]]).outputs["dx"])
    #expect(distance(dx, [-3.0 / 36, 2, 0.25]) < 1e-12)
  }

  @Test func selectPassesAnInfiniteCotangentToOneSideOnly() throws {
    let builder = GraphBuilder(dtype: .float64)
    let (a, b) = (builder.input("a", f64(2)), builder.input("b", f64(2)))
    let mask = builder.constant([1, 0], [2])
    // The square root has an infinite slope at 0.
    let loss = mask.elementwise(.select, a, b).elementwise(.squareRoot).sum()
    for (name, gradient) in zip(["da", "db"], builder.gradients(of: loss, withRespectTo: [a, b])) {
      builder.output(name, gradient)
    }
    let outputs = try Interpreter(builder.graph()).run(["a": [0, 9], "b": [9, 0]]).outputs
    #expect(outputs["da"] == [.infinity, 0])
    #expect(outputs["db"] == [0, .infinity])
  }

  @Test func broadcastGradientsSumToTheOperand() throws {
    let shapes: [(Shape, Shape)] = [
      ([4, 3], [3]), ([3], [4, 3]), ([4, 1], [1, 3]), ([], [2, 3]), ([2, 1, 3], [5, 1]), ([1], [4]), ([1, 1], [3]),
    ]
    for (a, b) in shapes {
      for name in [ElementwiseName.add, .subtract, .multiply, .divide] {
        try expectGradients(
          ["a": TensorType(a, .float64), "b": TensorType(b, .float64)], domains: ["a": 1...2, "b": 1...2]
        ) { _, x in x[0].elementwise(name, x[1]) }
      }
    }
    try expectGradients(
      ["m": f64(4, 1), "a": f64(3), "b": f64(2, 1, 3)], domains: ["m": 0.5...1]
    ) { b, x in x[0].elementwise(.greater, 0.7).elementwise(.select, x[1], x[2]) + x[0] }
    try expectGradients(["x": f64(4, 3), "alpha": f64(3)], domains: ["alpha": 0.5...1]) { _, x in
      x[0].elementwise(.elu, x[1])
    }
  }

  @Test func typeRule() throws {
    let add = Operation.elementwise(Elementwise(.add))
    #expect(try outputTypes(add, f32(4, 1), f32(3)) == [f32(4, 3)])
    #expect(try outputTypes(add, f64(), f64(2, 0)) == [f64(2, 0)])
    #expect(try outputTypes(add, i32(3), i32(3)) == [i32(3)])
    #expect(refusal(add, f32(4, 3), f32(4)) == "[add] expects shapes that broadcast, got [4, 3] and [4]")
    #expect(refusal(add, f32(3), f64(3)) == "[add] expects operands of one type, got [f32[3], f64[3]]")
    #expect(refusal(add, f32(3)) == "[add] expects 2 operands, got 1")
    #expect(refusal(.elementwise(Elementwise(.relu)), f32(3), f32(3)) == "[relu] expects 1 operands, got 2")
    let bytes = TensorType([3], .uint8)
    #expect(refusal(.elementwise(Elementwise(.square)), bytes) == "[square] expects operands of one type, got [u8[3]]")
    #expect(
      refusal { b in _ = b.scope("block") { b.input("x", f32(2, 3)) * b.input("y", f32(3, 2)) } }
        == "[multiply] layer.block: expects shapes that broadcast, got [2, 3] and [3, 2]")
    #expect(
      refusal(.elementwise(Elementwise(.select)), f32(2), f32(3), f32(4))
        == "[select] expects shapes that broadcast, got [2] and [3] and [4]")
  }
}
