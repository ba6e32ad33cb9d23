import KeelCore
import KeelGraph
import Testing

@Suite struct MovementTests {
  private let six: [String: [Double]] = ["x": [1, 2, 3, 4, 5, 6]]

  @Test func reshape() throws {
    #expect(try interpret(six) { $0.input("x", f64(2, 3)).reshape([3, 2]) } == [1, 2, 3, 4, 5, 6])
    #expect(
      refusal { _ = $0.input("x", f32(2, 3)).reshape([4, 2]) }
        == "[reshape] layer: expects 8 elements for [4, 2], got f32[2, 3]")
    #expect(refusal { _ = $0.input("x", f32(2, 3)).reshape([-2, -3]) }?.hasPrefix("[reshape] layer: expects") == true)
    #expect(refusal { _ = $0.input("x", f32(1)).reshape([]) } == nil)
    try expectGradients(["x": f64(2, 3, 2)]) { _, x in x[0].reshape([4, 3]).elementwise(.tanh) }
  }

  @Test func transpose() throws {
    #expect(try interpret(six) { $0.input("x", f64(2, 3)).transpose([1, 0]) } == [1, 4, 2, 5, 3, 6])
    // Axis i of the result is axis permutation[i] of the operand.
    let graph = try graph { $0.input("x", f32(2, 3, 4)).transpose([2, 0, 1]) }
    #expect(graph.nodes[1].types == [f32(4, 2, 3)])
    let moved = try interpret(["x": (0..<24).map(Double.init)]) { $0.input("x", f64(2, 3, 4)).transpose([2, 0, 1]) }
    #expect(Array(moved[..<9]) == [0, 4, 8, 12, 16, 20, 1, 5, 9])
    #expect(moved[23] == 23 && moved.sorted() == (0..<24).map(Double.init))
    let text = "[transpose] layer: expects a permutation of the axes of f32[2, 3], at most 4, got "
    #expect(refusal { _ = $0.input("x", f32(2, 3)).transpose([0, 0]) } == text + "[0, 0]")
    #expect(refusal { _ = $0.input("x", f32(2, 3)).transpose([0]) } == text + "[0]")
    #expect(refusal { _ = $0.input("x", f32(2, 3)).transpose([1, 2]) } == text + "[1, 2]")
    #expect(
      refusal { _ = $0.input("x", f32(1, 1, 1, 1, 1)).transpose([0, 1, 2, 3, 4]) }?.contains("at most 4") == true)
    for permutation in [[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]] {
      try expectGradients(["x": f64(2, 3, 4)]) { _, x in x[0].elementwise(.tanh).transpose(permutation) }
    }
  }

  @Test func broadcast() throws {
    #expect(
      try interpret(["x": [1, 2]]) { $0.input("x", f64(2, 1)).broadcast(to: [2, 2, 3]) } == [
        1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2,
      ])
    #expect(
      refusal { _ = $0.input("x", f32(2, 3)).broadcast(to: [3, 3]) }
        == "[broadcast] layer: expects a shape that broadcasts to [3, 3], got f32[2, 3]")
    // Broadcasting never takes away.
    #expect(refusal { _ = $0.input("x", f32(2, 3)).broadcast(to: [3]) }?.hasPrefix("[broadcast]") == true)
    #expect(refusal { _ = $0.input("x", f32(2, 3)).broadcast(to: [2, 1]) }?.hasPrefix("[broadcast]") == true)
    #expect(refusal { _ = $0.input("x", f32(1)).broadcast(to: [-1]) }?.hasPrefix("[broadcast]") == true)
    for (from, to) in [([], [2, 3]), ([3], [2, 3]), ([2, 1], [4, 2, 3]), ([1, 3, 1], [2, 3, 2])] as [(Shape, Shape)] {
      try expectGradients(["x": TensorType(from, .float64)]) { _, x in x[0].elementwise(.square).broadcast(to: to) }
    }
  }

  @Test func cast() throws {
    #expect(try interpret(["x": [1, 2]]) { $0.input("x", i32(2)).cast(to: .float64) * 0.5 } == [0.5, 1])
    #expect(
      refusal { _ = $0.input("x", f32(2)).cast(to: .int32) } == "[cast] layer: expects a floating-point result, got i32"
    )
    // A cast to the type that is there adds no node.
    #expect(try graph { $0.input("x", f32(2)).cast(to: .float32) }.nodes.count == 1)
    // The cotangent has the operand's type.
    let builder = GraphBuilder()
    let x = builder.input("x", f32(2))
    let gradient = builder.gradients(of: x.cast(to: .float64).elementwise(.square).sum(), withRespectTo: [x])[0]
    #expect(gradient.type == f32(2))
    builder.output("dx", gradient)
    #expect(try Interpreter(builder.graph()).run(["x": [3, -1]]).outputs["dx"] == [6, -2])
  }

  private func gather(_ cursor: [Double], rows: Int = 2, scale: Double = 1) throws -> [Double] {
    try interpret(["data": [0, 1, 10, 11, 20, 21], "order": [2, 0, 1], "cursor": cursor]) { b in
      b.append(
        .gather(Gather(rows: rows, dtype: .float64, scale: scale)),
        [b.input("data", TensorType([3, 2], .uint8)), b.input("order", i32(3)), b.input("cursor", Cursor.type)])[0]
    }
  }

  @Test func gatherTakesRowsInOrder() throws {
    #expect(try gather([0, 0, 0]) == [20, 21, 0, 1])
    #expect(try gather([1, 5, 9]) == [0, 1, 10, 11])
    #expect(try gather([0, 0, 0], rows: 3, scale: 0.5) == [10, 10.5, 0, 0.5, 5, 5.5])
    // Past the end the last sample stands in: a cursor out of its range is no way to read foreign memory.
    #expect(try gather([2, 0, 0]) == [10, 11, 10, 11])
    #expect(try gather([-7, 0, 0]) == [20, 21, 0, 1])
  }

  @Test func gatherTypeRule() throws {
    let operation = Operation.gather(Gather(rows: 32, dtype: .float32))
    let bytes = TensorType([100, 28, 28], .uint8)
    #expect(try outputTypes(operation, bytes, i32(100), i32(3)) == [f32(32, 28, 28)])
    #expect(try outputTypes(.gather(Gather(rows: 4, dtype: .int32)), i32(9), i32(9), i32(3)) == [i32(4)])
    #expect(
      refusal(operation, TensorType([0, 4], .uint8), i32(3), i32(3))
        == "[gather] expects rows to gather from, got u8[0, 4] and 32 rows")
    #expect(refusal(.gather(Gather(rows: 0, dtype: .float32)), bytes, i32(3), i32(3))?.contains("and 0 rows") == true)
    #expect(refusal(operation, f32(), i32(3), i32(3))?.contains("rows to gather from") == true)
    let text = "[gather] expects an i32 order [samples] and a cursor i32[3], got "
    #expect(refusal(operation, bytes, f32(100), i32(3)) == text + "f32[100] and i32[3]")
    #expect(refusal(operation, bytes, i32(0), i32(3)) == text + "i32[0] and i32[3]")
    #expect(refusal(operation, bytes, i32(10, 10), i32(3)) == text + "i32[10, 10] and i32[3]")
    #expect(refusal(operation, bytes, i32(100), i32(2)) == text + "i32[100] and i32[2]")
  }

  private func record(stepInEpoch: Double) throws -> [Double] {
    try interpret(["history": [1, 2, 3, 4, 5, 6], "cursor": [99, stepInEpoch, 7], "loss": [0.5], "hits": [8]]) { b in
      b.append(
        .record(Record(rows: 4)),
        [b.input("history", f64(3, 2)), b.input("cursor", Cursor.type), b.input("loss", f64()), b.input("hits", f64())])[
          0]
    }
  }

  @Test func recordWritesOneRow() throws {
    #expect(try record(stepInEpoch: 0) == [0.5, 8, 3, 4, 5, 6])
    #expect(try record(stepInEpoch: 2) == [1, 2, 3, 4, 0.5, 8])
    // A history that is full keeps what it has.
    #expect(try record(stepInEpoch: 3) == [1, 2, 3, 4, 5, 6])
    #expect(try record(stepInEpoch: -1) == [1, 2, 3, 4, 5, 6])
  }

  @Test func recordMovesTheCursor() throws {
    func cursor(_ loss: Double, _ nonFinite: NonFiniteStep) throws -> [Double] {
      try interpret(["history": [0, 0], "cursor": [64, 1, 7], "loss": [loss]]) { b in
        b.append(
          .record(Record(rows: 32, nonFinite: nonFinite)),
          [b.input("history", f64(2, 1)), b.input("cursor", Cursor.type), b.input("loss", f64())])[1]
      }
    }
    for choice in NonFiniteStep.allCases { #expect(try cursor(0.5, choice) == [96, 2, 8]) }
    for loss in [Double.nan, -.infinity] {
      #expect(try cursor(loss, .advance) == [96, 2, 8])
      #expect(try cursor(loss, .skip) == [96, 2, 7])
      #expect(try cursor(loss, .hold) == [64, 1, 7])
    }
  }

  @Test func recordTypeRule() throws {
    let record = Operation.record(Record(rows: 4))
    #expect(try outputTypes(record, f32(5, 2), i32(3), f32(), f32()) == [f32(5, 2), i32(3)])
    let text = "[record] expects history [steps, columns], cursor and 1 to 4 scalars, one a column, got "
    #expect(refusal(record, f32(5, 2), i32(3), f32()) == text + "[f32[5, 2], i32[3], f32[]]")
    #expect(refusal(record, f32(5, 1), i32(3), f32(1)) == text + "[f32[5, 1], i32[3], f32[1]]")
    #expect(refusal(record, f32(5, 1), i32(3), f64()) == text + "[f32[5, 1], i32[3], f64[]]")
    #expect(refusal(record, f32(5), i32(3), f32())?.hasPrefix(text) == true)
    #expect(refusal(record, f32(5, 0), i32(3))?.hasPrefix(text) == true)
    #expect(refusal(record, f32(5, 5), i32(3), f32(), f32(), f32(), f32(), f32())?.hasPrefix(text) == true)
  }
}
