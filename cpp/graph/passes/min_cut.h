// The cheapest way to give every vertex one of two labels, exactly: a price per vertex and label, a price per
// pair that differs. Maximum flow = minimum cut (Ford & Fulkerson 1956), found by Dinic's algorithm (1970).
#pragma once

#include <vector>

namespace fastcnn::graph {

class MinCut {
 public:
  explicit MinCut(int vertices);
  int add_vertex();
  // Prices of labels 0 and 1; they add up over calls. Infinity forbids a label.
  void price(int v, double zero, double one);
  // What it costs when a is 0 and b is 1.
  void differ(int a, int b, double cost);
  std::vector<bool> solve();  // the labels; 0 where both are as cheap

 private:
  struct Edge {
    int to;
    double room;
  };
  void link(int from, int to, double room);
  bool levels();
  double push(int v, double most);
  int vertices_;
  std::vector<Edge> edges_;  // an edge and its reverse are neighbours
  std::vector<std::vector<int>> out_;
  std::vector<int> level_, next_;
};

}  // namespace fastcnn::graph
