import KeelCore
import KeelGraph
import Testing

@Suite struct ReduceTests {
  private func reduce(_ kind: Reduce.Kind, _ axes: Range<Int>, _ shape: Shape, _ values: [Double]) throws -> [Double] {
    try interpret(["x": values]) {
      $0.append(.reduce(Reduce(kind: kind, axes: axes)), [$0.input("x", TensorType(shape, .float64))])[0]
    }
  }

  @Test func sumsAndMaximaOfEveryBlock() throws {
    let x = (1...12).map(Double.init)
    #expect(try reduce(.sum, 0..<1, [2, 3, 2], x) == [8, 10, 12, 14, 16, 18])
    #expect(try reduce(.sum, 1..<2, [2, 3, 2], x) == [9, 12, 27, 30])
    #expect(try reduce(.sum, 2..<3, [2, 3, 2], x) == [3, 7, 11, 15, 19, 23])
    #expect(try reduce(.sum, 0..<2, [2, 3, 2], x) == [36, 42])
    #expect(try reduce(.sum, 1..<3, [2, 3, 2], x) == [21, 57])
    #expect(try reduce(.sum, 0..<3, [2, 3, 2], x) == [78])
    #expect(try reduce(.max, 1..<2, [2, 3, 2], x) == [5, 6, 11, 12])
    #expect(try reduce(.max, 0..<1, [3], [-3, -1, -2]) == [-1])
  }

  @Test func emptyAndUnordered() throws {
    #expect(try reduce(.sum, 1..<2, [2, 0], []) == [0, 0])
    #expect(try reduce(.max, 1..<2, [1, 0], []) == [-.infinity])
    #expect(try reduce(.max, 0..<1, [3], [1, .nan, 2])[0].isNaN)
  }

  @Test(arguments: [0..<1, 1..<2, 2..<3, 0..<2, 1..<3, 0..<3]) func gradients(_ axes: Range<Int>) throws {
    for kind in Reduce.Kind.allCases {
      try expectGradients(["x": f64(2, 3, 4)]) { b, x in
        b.append(.reduce(Reduce(kind: kind, axes: axes)), [x[0].elementwise(.tanh)])[0]
      }
      try expectGradients(["x": f64(2, 3, 4)], tolerance: 1e-6) { b, x in
        let y = b.append(.reduce(Reduce(kind: kind, axes: axes)), [x[0].elementwise(.square)])[0]
        return b.gradients(of: y.elementwise(.square).sum(), withRespectTo: x)[0]
      }
    }
  }

  @Test func equalMaximaShareTheCotangent() throws {
    let dx = try interpret(["x": [2, 5, 5, 1, 1, 1]]) { b in
      let x = b.input("x", f64(2, 3))
      return b.gradients(of: x.max(axes: [1]).sum() * 6.0, withRespectTo: [x])[0]
    }
    #expect(distance(dx, [0, 3, 3, 2, 2, 2]) < 1e-14)
  }

  @Test func typeRule() throws {
    let sum = { Operation.reduce(Reduce(kind: .sum, axes: $0)) }
    #expect(try outputTypes(sum(1..<3), f32(2, 3, 4, 5)) == [f32(2, 5)])
    #expect(try outputTypes(sum(0..<1), f64(3)) == [f64()])
    #expect(refusal(sum(0..<0), f32(2)) == "[reduceSum] expects axes of f32[2], got 0..<0")
    #expect(refusal(sum(1..<2), f32(2)) == "[reduceSum] expects axes of f32[2], got 1..<2")
    #expect(refusal(sum(-1..<1), f32(2)) == "[reduceSum] expects axes of f32[2], got -1..<1")
    #expect(refusal(sum(0..<1), i32(2)) == "[reduceSum] expects operands of one floating-point type, got [i32[2]]")
    #expect(
      refusal(.reduce(Reduce(kind: .max, axes: 0..<1)), f32()) == "[reduceMax] expects axes of f32[], got 0..<1")
  }
}
