import KeelCore
import KeelGraph
import Testing

/// The text of what `pass`, then the removal of dead nodes, leaves of a traced graph, whose results stay the same.
func text(after pass: Pass, _ body: (GraphBuilder) -> Tensor) throws -> String {
  try sameResults(graph("g", body), after: Pipeline([pass, .deadCode])).description
}

@Suite struct CanonicalizeTests {
  private let untouched = """
    graph g {
      %0 = x{data} : f32[2, 3]
      output y = %0
    }
    """
  private func after(_ body: (GraphBuilder, Tensor) -> Tensor) throws -> String {
    try text(after: .canonicalize) { body($0, $0.input("x", f32(2, 3))) }
  }

  @Test func neutralElementsVanish() throws {
    #expect(try after { _, x in x + 0.0 } == untouched)
    #expect(try after { b, x in b.constant(0) + x } == untouched)
    #expect(try after { _, x in x - 0.0 } == untouched)
    #expect(try after { _, x in x * 1.0 } == untouched)
    #expect(try after { b, x in b.constant(1, [3]) * x } == untouched)
    #expect(try after { _, x in x / 1.0 } == untouched)
    #expect(try after { _, x in -(-x) } == untouched)
    #expect(try after { _, x in -(-((x + 0.0) * 1.0)) } == untouched)
  }

  @Test func whatOnlyLooksNeutralStays() throws {
    // 0 − x and 1 / x are not x; a product with a wider constant of ones is wider.
    #expect(try after { b, x in b.constant(0, [2, 3]) - x }.contains("subtract(%1, %0)"))
    #expect(try after { b, x in b.constant(1, [2, 3]) / x }.contains("divide(%1, %0)"))
    #expect(try after { b, x in x * b.constant(1, [4, 2, 3]) }.contains("multiply(%0, %1) : f32[4, 2, 3]"))
    #expect(try after { _, x in x * 0.0 }.contains("multiply"))
  }

  /// What goes beyond a type of integers is whatever the device makes of it.
  @Test func integersBeyondTheirTypeAreNotFolded() throws {
    func after(_ body: (Tensor) -> Tensor) throws -> String {
      try text(after: .canonicalize) { body($0.constant(Double(Int32.max), [4], .int32)) }
    }
    #expect(try after { $0 + 1.0 }.contains("add"))
    #expect(try after { -$0 - 2.0 }.contains("subtract"))
    #expect(try !after { $0 - 1.0 }.contains("subtract"))
  }

  @Test func constantsAreFolded() throws {
    let folded = try after { b, x in (b.constant(2) * 3.0 + b.constant(4, [3])).elementwise(.squareRoot) + x }
    #expect(
      folded == """
        graph g {
          %0 = x{data} : f32[2, 3]
          %1 = constant{\(10.0.squareRoot())} : f32[3]
          %2 = add(%1, %0) : f32[2, 3]
          output y = %2
        }
        """)
    // Constants of many values are not: they are data.
    #expect(try after { b, x in b.constant([1, 2, 3], [3]) * 2.0 + x }.contains("multiply"))
    #expect(
      try text(after: .canonicalize) { $0.constant(3, [4, 5]).sum(axes: [1]) } == """
        graph g {
          %0 = constant{15.0} : f32[4]
          output y = %0
        }
        """)
    #expect(
      try text(after: .canonicalize) { $0.constant(3).broadcast(to: [2, 2]).reshape([4]) } == """
        graph g {
          %0 = constant{3.0} : f32[4]
          output y = %0
        }
        """)
  }

  @Test func elementwiseStretchesItsOperandsItself() throws {
    #expect(
      try text(after: .canonicalize) { b in b.input("x", f32(2, 3)) * b.input("s", f32(3)).broadcast(to: [2, 3]) }
        == """
        graph g {
          %0 = x{data} : f32[2, 3]
          %1 = s{data} : f32[3]
          %2 = multiply(%0, %1) : f32[2, 3]
          output y = %2
        }
        """)
    // One of two must keep the shape.
    #expect(
      try text(after: .canonicalize) { b in
        let wide = b.input("s", f32(3)).broadcast(to: [2, 3])
        return wide * wide
      } == """
        graph g {
          %0 = s{data} : f32[3]
          %1 = broadcast(%0) : f32[2, 3]
          %2 = multiply(%0, %1) : f32[2, 3]
          output y = %2
        }
        """)
  }

  @Test func viewsMerge() throws {
    #expect(try after { _, x in x.reshape([2, 3]) } == untouched)
    #expect(try after { _, x in x.broadcast(to: [2, 3]) } == untouched)
    #expect(try after { _, x in x.reshape([6]).reshape([3, 2]).reshape([2, 3]) } == untouched)
    #expect(
      try after { _, x in x.reshape([6]).reshape([3, 2]) } == """
        graph g {
          %0 = x{data} : f32[2, 3]
          %1 = reshape(%0) : f32[3, 2]
          output y = %1
        }
        """)
    #expect(
      try text(after: .canonicalize) { $0.input("x", f32(3)).broadcast(to: [2, 3]).broadcast(to: [4, 2, 3]) } == """
        graph g {
          %0 = x{data} : f32[3]
          %1 = broadcast(%0) : f32[4, 2, 3]
          output y = %1
        }
        """)
  }

  @Test func transposesMerge() throws {
    #expect(try after { _, x in x.transpose([0, 1]) } == untouched)
    #expect(try after { _, x in x.transpose([1, 0]).transpose([1, 0]) } == untouched)
    #expect(
      try text(after: .canonicalize) { $0.input("x", f32(2, 3, 4)).transpose([1, 2, 0]).transpose([1, 0, 2]) } == """
        graph g {
          %0 = x{data} : f32[2, 3, 4]
          %1 = transpose{2 1 0}(%0) : f32[4, 3, 2]
          output y = %1
        }
        """)
  }

  @Test func aTransposedMatrixIsReadTransposed() throws {
    #expect(
      try text(after: .canonicalize) { b in
        b.input("a", f32(5, 4)).transpose([1, 0]).matMul(b.input("b", f32(5, 3)))
      } == """
        graph g {
          %0 = a{data} : f32[5, 4]
          %1 = b{data} : f32[5, 3]
          %2 = matMul{TN}(%0, %1) : f32[4, 3]
          output y = %2
        }
        """)
    #expect(
      try text(after: .canonicalize) { b in
        let (x, y) = (b.input("a", f32(4, 5)).transpose([1, 0]), b.input("b", f32(5, 3)).transpose([1, 0]))
        return x.matMul(y, transposeA: true, transposeB: true)
      } == """
        graph g {
          %0 = a{data} : f32[4, 5]
          %1 = b{data} : f32[5, 3]
          %2 = matMul(%0, %1) : f32[4, 3]
          output y = %2
        }
        """)
  }

  @Test func aReductionOverOneElementIsAReshape() throws {
    #expect(
      try text(after: .canonicalize) { $0.input("x", f32(2, 1, 3)).sum(axes: [1]) } == """
        graph g {
          %0 = x{data} : f32[2, 1, 3]
          %1 = reshape(%0) : f32[2, 3]
          output y = %1
        }
        """)
    #expect(try text(after: .canonicalize) { $0.input("x", f32(2, 1)).max(axes: [1]) }.contains("reshape(%0) : f32[2]"))
  }

  @Test func updatesFollowTheirValues() throws {
    let builder = GraphBuilder(name: "g")
    let x = builder.input("x", f32(2))
    builder.update(x, with: x * 2.0 * 1.0 + 0.0)
    #expect(
      try Pass.deadCode.run(Pass.canonicalize.run(builder.graph())).description == """
        graph g {
          %0 = x{data} : f32[2]
          %1 = constant{2.0} : f32[]
          %2 = multiply(%0, %1) : f32[2]
          update "x" <- %2
        }
        """)
  }
}
