import Foundation
import Keel

// Products of matrices beside OpenBLAS, in a process of its own, and beside CLBlast, on the same OpenCL device.

extension PeerComparison {
  /// What `keel bench gemm --compare --json` says.
  private struct Products: Decodable {
    struct Product: Decodable {
      var m: Int
      var n: Int
      var k: Int
      var transposition: String
      var microseconds: Double
      var median: Double
      var mergedMicroseconds: Double?
      var mergedMedian: Double?
      var peerMicroseconds: Double
      var peerMedian: Double
    }
    var peer: String
    var shapes: [Product]
  }

  /// The geometric mean of all products and the worst, in calls of their own, and with small ones merged.
  func compareProducts() throws {
    progress("products of matrices")
    var arguments = ["bench", "gemm", "--compare", "--json", "--repeat", "\(repeats)"]
    if let deviceName { arguments += ["--device", deviceName] }
    let child = ChildProcess(
      try ChildProcess.ownExecutable(), arguments, timeout: peers.timeout * Double(repeats))
    let products = try JSONDecoder().decode(Products.self, from: child.output())
    let peer = products.peer.split(separator: ",").prefix(2).joined(separator: ",")
    var rows = products.shapes.map { product in
      ComparedRow(
        .products, "  \(GemmShape(m: product.m, n: product.n, k: product.k).text) \(product.transposition)",
        .microseconds, keel: (product.microseconds, product.median), peer: peer,
        other: (product.peerMicroseconds, product.peerMedian), target: 0.85)
    }
    emitProducts("single calls", rows, target: 0.97)
    guard products.shapes.contains(where: { $0.mergedMicroseconds != nil }) else { return }
    for (index, product) in products.shapes.enumerated() {
      guard let merged = product.mergedMicroseconds, let median = product.mergedMedian else { continue }
      rows[index] = ComparedRow(
        .products, rows[index].work + " merged", .microseconds, keel: (merged, median), peer: peer,
        other: (product.peerMicroseconds, product.peerMedian), target: 0.85)
    }
    emitProducts("small ones merged", rows, target: 0.97)
  }

  /// The geometric means, and the three worst.
  private func emitProducts(_ title: String, _ rows: [ComparedRow], target: Double) {
    func mean(_ figure: (ComparedRow) -> Figure) -> Double {
      rows.compactMap { figure($0).value }.geometricMean ?? .nan
    }
    emit(
      ComparedRow(
        rows.first?.part ?? .products, "products, \(title): mean", .microseconds,
        keel: (mean(\.keel), mean(\.keelMedian)),
        peer: rows.first?.peer ?? "", other: (mean(\.other), mean(\.otherMedian)), target: target))
    for row in rows.sorted(by: { $0.ratio.value ?? .nan < $1.ratio.value ?? .nan }).prefix(3) { emit(row) }
  }

  /// All products of `keel bench gemm`, both sides a call each, turn by turn.
  func compareCLBlast() throws {
    progress("starting CLBlast")
    let peer = try PeerServer(peers.clblast, ["--serve", "--device", device.name], threads: 0, timeout: peers.timeout)
    let context = try ComputeContext(device)
    var rows: [ComparedRow] = []
    for shape in GemmShape.standard {
      for transposition in [Transposition.nn, .nt, .tn] {
        let title = "\(shape.text) \(transposition.rawValue)"
        progress("\(title), CLBlast")
        let job = Data("\(shape.m)x\(shape.n)x\(shape.k) \(transposition.rawValue)".utf8)
        let benchmark = try GemmBenchmark(shape, transposition, forced: nil, merges: false, on: context)
        let count = try Timing.count { try benchmark.seconds(count: $0) }
        _ = try peer.microseconds(job)
        var (own, other) = (Timing(), Timing())
        for _ in 0..<repeats {
          // Both are run before they are timed, so that their cores are awake.
          _ = try benchmark.seconds(count: count)
          own.append(try benchmark.seconds(count: count) * 1e6)
          other.append(try peer.microseconds(job))
        }
        rows.append(
          ComparedRow(
            .clblast, "  \(title)", .microseconds, keel: own.extract, peer: peer.name, other: other.extract, target: 8))
      }
    }
    emitProducts("a call each", rows, target: 8)
  }
}
